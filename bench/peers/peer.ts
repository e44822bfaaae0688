/** Another program that does the same work. */

export interface FluxWork {
  /** Pixels. */
  width: number;
  height: number;
  textTokens: number;
  /** FLUX.1-dev has 19 and 38. */
  doubleBlocks: number;
  singleBlocks: number;
  threads: number;
}

export interface Peer {
  name: string;
  /** A few steps of denoising, each one's seconds, and the largest memory while they were made. */
  run(): Promise<{ steps: number[]; peakMb: number }>;
  stop(): void;
}
