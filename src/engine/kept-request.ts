/** What the database keeps of a kept job, to draw it whenever its turn comes and to answer for it later. */
import type { GenerationRequest } from "./generation-request.ts";
import { type ConditionOutline, type KeptInputs, outlineOf } from "./kept-inputs.ts";

export interface KeptRequest {
  request: Omit<GenerationRequest, "condition">;
  /** Of what was given to start from; its pixels are among the `KeptInputs`. */
  condition?: ConditionOutline | undefined;
  /** Whatever the answer depends on beyond the request. */
  note: unknown;
}

export function toKept({ condition, ...request }: GenerationRequest, note: unknown): KeptRequest {
  return { request, condition: condition && outlineOf(condition), note };
}

/** The request as it was accepted. Throws `lost` when what it starts from is gone. */
export async function restoreRequest(
  jobId: string,
  { request, condition }: KeptRequest,
  inputs: KeptInputs,
): Promise<GenerationRequest> {
  return condition === undefined ? request : { ...request, condition: await inputs.read(jobId, condition) };
}
