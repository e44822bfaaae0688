/** What whoever counts and whoever tells others sees of all jobs; times in seconds. */
export interface JobObserver {
  started?(job: { waitSeconds: number; again: boolean }): void;
  step?(seconds: number): void;
  /** Another request gets the pictures of work that was already in hand. */
  shared?(): void;
  ended?(job: EndedJob): void;
}

export interface EndedJob {
  id: string;
  model: string;
  kept: boolean;
  outcome: "succeeded" | "failed" | "cancelled";
  pictures: number;
  /** Whether its model was in memory already; undefined when it did not come to its end. */
  foundLoaded?: boolean | undefined;
  /** Of drawing, without waiting. */
  seconds: number;
  /** Whether it ended with the engine process. */
  crashed: boolean;
}
