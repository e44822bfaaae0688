/** Where a graph runs. */
export const deviceNames = ["auto", "cpu", "webgpu", "cuda", "coreml", "dml"] as const;
export type DeviceName = (typeof deviceNames)[number];
