/** What the database keeps of a kept job, to draw it whenever its turn comes and to answer for it later. */
import type { GenerationRequest } from "./generation-request.ts";

export interface KeptRequest {
  request: GenerationRequest;
  /** Whatever the answer depends on beyond the request. */
  note: unknown;
}
