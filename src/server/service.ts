/** Everything that serves, put together in the order in which it depends on each other, and taken apart in the reverse. */
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import { Engine, type EngineOptions } from "../engine/engine.ts";
import { Enlargements } from "../engine/enlargements.ts";
import { Jobs } from "../engine/jobs.ts";
import { KeptInputs } from "../engine/kept-inputs.ts";
import { KeptPictures } from "../engine/kept-pictures.ts";
import { checkpointApart } from "../store/checkpoints.ts";
import { claimDatabase, type Database, databaseLocation, openDatabase } from "../store/database.ts";
import { JobStore } from "../store/jobs.ts";
import { KeyStore } from "../store/keys.ts";
import { type AppOptions, createApp } from "./app.ts";
import { createModerator, type ModerationOptions } from "./moderation.ts";
import { Webhooks } from "./webhooks.ts";

export interface ServiceOptions
  extends
    Omit<AppOptions, "engine" | "jobs" | "enlargements" | "keys" | "jobStore" | "database">,
    Omit<EngineOptions, "maxUpscaledSide">,
    ModerationOptions {
  /** A `postgres://` address. Default: SQLite in `home`. */
  databaseUrl?: string | undefined;
  disconnectGraceSeconds: number;
  jobRetentionHours: number;
  /** Of the pictures that jobs in hand start from. */
  jobInputLimitBytes: number;
  webhookRetryDelaysMs?: readonly number[] | undefined;
}

/** How long a client may take to read its answer when the server closes. */
const deliveryMs = 3000;

export class Service implements AsyncDisposable {
  readonly app: FastifyInstance;
  readonly engine: Engine;
  readonly jobs: Jobs;
  readonly enlargements: Enlargements;
  readonly keys: KeyStore;
  /** The database, and the claim to it. */
  #holding: AsyncDisposableStack | undefined;
  readonly #webhooks: Webhooks;
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;

  private constructor(database: Database, options: ServiceOptions) {
    const { home } = options;
    // Read before anything is started that would have to be stopped when the word list is not there.
    const moderator = createModerator(options);
    const onFault = (error: unknown) => this.app.log.error({ err: error }, "a fault in the background");
    const store = new JobStore(database);
    this.keys = new KeyStore(database);
    this.engine = Engine.start({
      ...options,
      onDevice: (choice) => this.app.log.info(choice, "loaded a model"),
    });
    this.jobs = new Jobs({
      engine: this.engine,
      store,
      keys: this.keys,
      inputs: new KeptInputs({ folder: join(home, "job-inputs"), limitBytes: options.jobInputLimitBytes }),
      pictures: new KeptPictures(join(home, "jobs")),
      moderate: moderator && (({ prompt }) => moderator(prompt)),
      disconnectGraceMs: options.disconnectGraceSeconds * 1000,
      onFault,
    });
    this.enlargements = new Enlargements({ engine: this.engine, store, onFault });
    const { engine, jobs, enlargements, keys } = this;
    try {
      this.app = createApp({ ...options, engine, jobs, enlargements, keys, jobStore: store, database });
    } catch (error) {
      void engine.close();
      throw error;
    }
    this.#webhooks = new Webhooks({
      jobs,
      store,
      allowPrivate: options.webhookAllowPrivate,
      retryDelaysMs: options.webhookRetryDelaysMs,
      onFault,
    });
  }

  /**
   * A service that is ready to listen, with the kept jobs of the last one taken up again. Throws `io_failed` when the
   * database or the word list cannot be used.
   */
  static async open(options: ServiceOptions): Promise<Service> {
    const location = databaseLocation(options);
    await using opening = new AsyncDisposableStack();
    const database = opening.adopt(await openDatabase(location), (opened) => opened.destroy());
    opening.use(await claimDatabase(location));
    const service = new Service(database, options);
    const { app, jobs } = service;
    opening.use(
      await checkpointApart(database, location, (err) => app.log.error({ err }, "a fault in the background")),
    );
    service.#holding = opening.move();
    const { resumed, lost } = await jobs.recover();
    if (resumed.length > 0) app.log.info({ jobs: resumed }, "took up the jobs of the last run");
    if (lost.length > 0) app.log.warn({ jobs: lost }, "these generations were lost with the last run, and not charged");
    jobs.sweep(options.jobRetentionHours * 3600_000, service.#closing.signal);
    return service;
  }

  /** Takes no more work, lets what is in hand go on for at most `drainMs`, answers everybody, and closes. */
  async close(drainMs = 0): Promise<void> {
    this.#closed ??= this.#close(drainMs);
    await this.#closed;
  }

  async #close(drainMs: number): Promise<void> {
    this.#closing.abort();
    // At once: the server refuses new connections while the old ones wait for their pictures.
    const closed = this.app.close();
    const sinceMs = performance.now();
    await this.enlargements.drain(drainMs);
    await this.jobs.drain(Math.max(0, drainMs - (performance.now() - sinceMs)));
    const impatience = setTimeout(() => this.app.server.closeAllConnections(), deliveryMs);
    await closed;
    clearTimeout(impatience);
    this.#webhooks.close();
    await this.#holding?.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
