/** Lets a few pieces of work run at the same time and the others wait in line. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** `places`: how many may run at the same time. */
  constructor(places: number) {
    this.#free = places;
  }

  /** What `work` gives, once there is a place for it. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
