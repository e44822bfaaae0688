/**
 * Counters, gauges and histograms, written as Prometheus reads them (text format 0.0.4). Labels come from routes and models,
 * never from what a client can make up, so the number of series is bounded.
 */
import { readFileSync } from "node:fs";
import type { Engine } from "../engine/engine.ts";
import type { Jobs } from "../engine/jobs.ts";

type Labels = Readonly<Record<string, string>>;

interface Metric {
  render(): string[];
}

export class Counter implements Metric {
  readonly #head: string[];
  readonly #name: string;
  readonly #values = new Map<string, number>();

  constructor(name: string, help: string) {
    this.#name = name;
    this.#head = head(name, help, "counter");
  }

  add(labels: Labels = {}, amount = 1): void {
    const series = renderLabels(labels);
    this.#values.set(series, (this.#values.get(series) ?? 0) + amount);
  }

  render(): string[] {
    const lines = [...this.#values].map(([series, value]) => `${this.#name}${series} ${value}`);
    return [...this.#head, ...lines];
  }
}

/** A value that is read when somebody looks; undefined: it cannot be known here. */
export class Gauge implements Metric {
  readonly #name: string;
  readonly #help: string;
  readonly #read: () => number | undefined;

  constructor(name: string, help: string, read: () => number | undefined) {
    this.#name = name;
    this.#help = help;
    this.#read = read;
  }

  render(): string[] {
    const value = this.#read();
    return value === undefined ? [] : [...head(this.#name, this.#help, "gauge"), `${this.#name} ${value}`];
  }
}

export class Histogram implements Metric {
  readonly #head: string[];
  readonly #name: string;
  readonly #bounds: readonly number[];
  readonly #series = new Map<string, { labels: Labels; counts: number[]; sum: number; count: number }>();

  /** `bounds`: upper ends of the buckets, ascending. */
  constructor(name: string, help: string, bounds: readonly number[]) {
    this.#name = name;
    this.#bounds = bounds;
    this.#head = head(name, help, "histogram");
  }

  observe(value: number, labels: Labels = {}): void {
    const key = renderLabels(labels);
    const series = this.#series.get(key) ?? { labels, counts: this.#bounds.map(() => 0), sum: 0, count: 0 };
    this.#series.set(key, series);
    this.#bounds.forEach((bound, index) => {
      if (value <= bound) series.counts[index] = (series.counts[index] ?? 0) + 1;
    });
    series.sum += value;
    series.count++;
  }

  render(): string[] {
    const lines = [...this.#series].flatMap(([key, { labels, counts, sum, count }]) => [
      ...this.#bounds.map(
        (bound, index) => `${this.#name}_bucket${renderLabels({ ...labels, le: String(bound) })} ${counts[index]}`,
      ),
      `${this.#name}_bucket${renderLabels({ ...labels, le: "+Inf" })} ${count}`,
      `${this.#name}_sum${key} ${sum}`,
      `${this.#name}_count${key} ${count}`,
    ]);
    return [...this.#head, ...lines];
  }
}

const requestBounds = [0.005, 0.025, 0.1, 0.5, 2.5, 10, 30, 60, 120, 300];
const drawingBounds = [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800];
const stepBounds = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** What Easel tells about itself. */
export class Metrics {
  readonly #requests = new Counter("easel_http_requests_total", "Answers, by route and status.");
  readonly #requestSeconds = new Histogram(
    "easel_http_request_seconds",
    "From a request's arrival to the end of its answer.",
    requestBounds,
  );
  readonly #generations = new Counter("easel_generations_total", "Generations that ended, by model and outcome.");
  readonly #pictures = new Counter("easel_pictures_total", "Pictures drawn, by model.");
  readonly #shared = new Counter("easel_shared_generations_total", "Requests answered with work already in hand.");
  readonly #modelHits = new Counter("easel_model_cache_hits_total", "Generations whose model was in memory already.");
  readonly #modelMisses = new Counter("easel_model_cache_misses_total", "Generations whose model had to be loaded.");
  readonly #crashes = new Counter("easel_engine_crashes_total", "Engine processes that ended while drawing.");
  readonly #waitSeconds = new Histogram(
    "easel_queue_wait_seconds",
    "From acceptance to the first step.",
    drawingBounds,
  );
  readonly #stepSeconds = new Histogram("easel_step_seconds", "One denoising step of one picture.", stepBounds);
  readonly #pictureSeconds = new Histogram("easel_picture_seconds", "Drawing one picture, by model.", drawingBounds);
  readonly #all: readonly Metric[];

  constructor({ engine, jobs }: { engine: Engine; jobs: Jobs }) {
    this.#shared.add({}, 0);
    this.#crashes.add({}, 0);
    jobs.observe({
      shared: () => this.#shared.add(),
      step: (seconds) => this.#stepSeconds.observe(seconds),
      started: ({ waitSeconds, again }) => {
        if (again) this.#crashes.add();
        else this.#waitSeconds.observe(waitSeconds);
      },
      ended: ({ model, outcome, pictures, foundLoaded, seconds, crashed }) => {
        this.#generations.add({ model, outcome });
        if (crashed) this.#crashes.add();
        if (foundLoaded !== undefined) (foundLoaded ? this.#modelHits : this.#modelMisses).add({ model });
        if (pictures === 0) return;
        this.#pictures.add({ model }, pictures);
        this.#pictureSeconds.observe(seconds / pictures, { model });
      },
    });
    this.#all = [
      this.#requests,
      this.#requestSeconds,
      this.#generations,
      this.#pictures,
      this.#shared,
      this.#modelHits,
      this.#modelMisses,
      this.#crashes,
      this.#waitSeconds,
      this.#stepSeconds,
      this.#pictureSeconds,
      new Gauge("easel_queue_depth", "Generations that wait.", () => engine.queueDepth),
      new Gauge("easel_jobs_in_hand", "Generations that wait or are drawn.", () => jobs.inHand),
      new Gauge("easel_engine_up", "1 while an engine process runs.", () => (engine.processId === undefined ? 0 : 1)),
      new Gauge("easel_engine_resident_memory_bytes", "Memory of the engine process (Linux).", () =>
        residentBytes(engine.processId),
      ),
      new Gauge("process_resident_memory_bytes", "Memory of the server process.", () => process.memoryUsage.rss()),
      new Gauge("process_start_time_seconds", "When the server started, in Unix time.", () =>
        Math.round(Date.now() / 1000 - process.uptime()),
      ),
    ];
  }

  /** Counts an answer. `route` is a pattern, not a path. */
  answered({
    method,
    route,
    status,
    seconds,
  }: {
    method: string;
    route: string;
    status: number;
    seconds: number;
  }): void {
    this.#requests.add({ method, route, status: String(status) });
    this.#requestSeconds.observe(seconds, { route });
  }

  render(): string {
    return `${this.#all.flatMap((metric) => metric.render()).join("\n")}\n`;
  }
}

function residentBytes(pid: number | undefined): number | undefined {
  if (pid === undefined) return undefined;
  try {
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}

function head(name: string, help: string, type: string): string[] {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
}

function renderLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
