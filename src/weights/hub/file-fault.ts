import { EaselError } from "../../errors.ts";

/** A failed file operation as `io_failed`, in one sentence with what to do; an `EaselError` stays as it is. */
export function fileFault(place: string, cause: unknown): EaselError {
  if (cause instanceof EaselError) return cause;
  return new EaselError("io_failed", `${place} could not be written: ${reason(cause)}.`, { cause });
}

/** Whether `error` says that there is no such file or folder. */
export function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}

function reason(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  // Node's recursive mkdir reports a read-only disk as ENOENT, which it has no other use for.
  const readOnly = code === "ENOENT" && error instanceof Error && "syscall" in error && error.syscall === "mkdir";
  switch (readOnly ? "EROFS" : code) {
    case "ENOSPC":
    case "EDQUOT":
      return "the disk is full; free some space and run the same command again, which goes on where it stopped";
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return "permission is missing; make the folder writable, or set EASEL_HOME to another one";
    default:
      return error instanceof Error ? error.message : String(error);
  }
}
