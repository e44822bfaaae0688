/** The progress of a download or a conversion on stderr: a bar for each file on a terminal, a few plain lines elsewhere. */
import type { DownloadEvent } from "../weights/hub/download-model.ts";
import { formatBytes } from "../weights/hub/byte-size.ts";

const barWidth = 24;
const redrawMs = 100;
/** The speed is that of this latest while. */
const speedWindowMs = 10_000;
/** Without a terminal, one line for each such part of the whole. */
const parts = 10;

interface FileState {
  sizeBytes: number;
  receivedBytes: number;
}

export interface ByteProgressOptions {
  stream?: NodeJS.WriteStream;
  /** What is done, and what one of its parts is called. Default: downloading files. */
  words?: { doing: string; part: string };
}

export class ByteProgress implements Disposable {
  readonly #stream: NodeJS.WriteStream;
  readonly #words: { doing: string; part: string };
  readonly #files = new Map<string, FileState>();
  #samples: { timeMs: number; bytes: number }[] = [];
  #drawnLines = 0;
  #drawnAtMs = 0;
  #part = 0;

  constructor({ stream = process.stderr, words = { doing: "Downloading", part: "file" } }: ByteProgressOptions = {}) {
    this.#stream = stream;
    this.#words = words;
  }

  get receivedBytes(): number {
    return this.#sum((file) => file.receivedBytes);
  }

  get totalBytes(): number {
    return this.#sum((file) => file.sizeBytes);
  }

  readonly onEvent = (event: DownloadEvent): void => {
    if (event.type === "plan") {
      for (const { path, ...state } of event.files) this.#files.set(path, state);
      this.#part = this.#currentPart();
      this.#samples = [{ timeMs: performance.now(), bytes: this.receivedBytes }];
      if (!this.#stream.isTTY) this.#stream.write(this.#plan());
      return;
    }
    const file = this.#files.get(event.path);
    if (!file) return;
    file.receivedBytes = event.receivedBytes;
    if (this.#stream.isTTY) this.#redraw();
    else this.#tellPart();
  };

  /** A sentence of its own line. */
  notice(sentence: string): void {
    this.#clear();
    this.#stream.write(`${sentence}\n`);
  }

  [Symbol.dispose](): void {
    this.#clear();
  }

  #plan(): string {
    const { receivedBytes, totalBytes } = this;
    const rest = receivedBytes >= totalBytes / 100 ? `, of which ${formatBytes(receivedBytes)} are here` : "";
    const { doing, part } = this.#words;
    const count = this.#files.size;
    return `${doing} ${count} ${part}${count === 1 ? "" : "s"}, ${formatBytes(totalBytes)}${rest}\n`;
  }

  #tellPart(): void {
    const part = this.#currentPart();
    if (part <= this.#part) return;
    this.#part = part;
    this.#sample(performance.now());
    this.#stream.write(`${this.#total()}\n`);
  }

  #currentPart(): number {
    return Math.floor((this.receivedBytes * parts) / Math.max(1, this.totalBytes));
  }

  #redraw(): void {
    const now = performance.now();
    if (now - this.#drawnAtMs < redrawMs) return;
    this.#drawnAtMs = now;
    this.#sample(now);
    const active = [...this.#files].filter(
      ([, { receivedBytes, sizeBytes }]) => receivedBytes > 0 && receivedBytes < sizeBytes,
    );
    const lines = active.map(([path, { receivedBytes, sizeBytes }]) => {
      const filled = Math.floor((barWidth * receivedBytes) / sizeBytes);
      const bar = "█".repeat(filled) + "░".repeat(barWidth - filled);
      return `${bar} ${formatBytes(receivedBytes)} of ${formatBytes(sizeBytes)}  ${path}`;
    });
    this.#clear();
    const columns = this.#stream.columns || 80;
    const cut = [...lines, this.#total()].map((line) => line.slice(0, columns - 1));
    this.#stream.write(cut.join("\n"));
    this.#drawnLines = cut.length;
  }

  #total(): string {
    const { receivedBytes, totalBytes } = this;
    const percent = Math.floor((100 * receivedBytes) / Math.max(1, totalBytes));
    const speed = this.#bytesPerSecond();
    const pace = speed > 0 ? `, ${formatBytes(Math.round(speed))}/s` : "";
    const left = speed > 0 ? `, ${formatDuration((totalBytes - receivedBytes) / speed)} left` : "";
    return `${percent} %  ${formatBytes(receivedBytes)} of ${formatBytes(totalBytes)}${pace}${left}`;
  }

  #sample(timeMs: number): void {
    this.#samples.push({ timeMs, bytes: this.receivedBytes });
    while (this.#samples.length > 2 && timeMs - this.#samples[0]!.timeMs > speedWindowMs) this.#samples.shift();
  }

  #bytesPerSecond(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (!first || !last || last.timeMs === first.timeMs) return 0;
    return Math.max(0, (1000 * (last.bytes - first.bytes)) / (last.timeMs - first.timeMs));
  }

  #clear(): void {
    if (this.#drawnLines === 0) return;
    const up = this.#drawnLines > 1 ? `\x1b[${this.#drawnLines - 1}A` : "";
    this.#stream.write(`${up}\r\x1b[J`);
    this.#drawnLines = 0;
  }

  #sum(of: (file: FileState) => number): number {
    let total = 0;
    for (const file of this.#files.values()) total += of(file);
    return total;
  }
}

/** "8 s", "4 min 10 s", "2 h 5 min". */
export function formatDuration(seconds: number): string {
  const s = Math.ceil(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
