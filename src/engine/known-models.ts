/** The published models that Easel knows how to run. */

export interface KnownModel {
  name: string;
  /** On the Hugging Face Hub. */
  repository: string;
  license: string;
  /** About what `easel pull` fetches, in bytes. */
  downloadBytes: number;
}

export const knownModels: readonly KnownModel[] = [
  {
    name: "FLUX.1-dev",
    repository: "black-forest-labs/FLUX.1-dev",
    license: "FLUX.1 [dev] Non-Commercial License",
    downloadBytes: 33.7e9,
  },
  {
    name: "FLUX.1-schnell",
    repository: "black-forest-labs/FLUX.1-schnell",
    license: "Apache-2.0",
    downloadBytes: 33.7e9,
  },
];
