/** A list that grows: every iteration sees it from its start and then waits for what comes, until it ends. */
export class EventLog<T> implements AsyncIterable<T> {
  readonly #events: T[] = [];
  #ended = false;
  #changed = Promise.withResolvers<void>();

  /** Appends `event`; after the end it is ignored. */
  push(event: T): void {
    if (this.#ended) return;
    this.#events.push(event);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    for (let index = 0; ;) {
      const event = this.#events[index];
      if (event !== undefined) {
        index++;
        yield event;
      } else if (this.#ended) return;
      else await this.#changed.promise;
    }
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
