/** What the shell is told. An interrupted command ends with 128 + the signal's number, as shells have it. */
export const exitCodes = { success: 0, failure: 1, usage: 2, interrupted: 130, terminated: 143 } as const;
