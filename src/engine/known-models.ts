/** The published models that Easel knows how to run. */
import type { WeightCount } from "../weights/weight-count.ts";

export interface KnownModel {
  name: string;
  /** On the Hugging Face Hub. */
  repository: string;
  license: string;
  /** About what `easel pull` fetches, in bytes. */
  downloadBytes: number;
  /** Its largest network: what decides whether it fits. */
  transformer: WeightCount;
}

export const knownModels: readonly KnownModel[] = [
  {
    name: "FLUX.1-dev",
    repository: "black-forest-labs/FLUX.1-dev",
    license: "FLUX.1 [dev] Non-Commercial License",
    downloadBytes: 33.7e9,
    transformer: {
      linearValues: 11_834_228_736,
      linearOutputs: 3_035_136,
      floatValues: 67_179_584,
      halfValues: 11_901_408_320,
    },
  },
  {
    name: "FLUX.1-schnell",
    repository: "black-forest-labs/FLUX.1-schnell",
    license: "Apache-2.0",
    downloadBytes: 33.7e9,
    transformer: {
      linearValues: 11_834_228_736,
      linearOutputs: 3_035_136,
      floatValues: 56_949_824,
      halfValues: 11_891_178_560,
    },
  },
];
