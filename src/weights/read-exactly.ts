import { readSync } from "node:fs";

/** Fills `target` from byte `position` of an open file on; false when the file ends before. */
export function readExactly(fd: number, position: number, target: Uint8Array): boolean {
  let read = 0;
  while (read < target.length) {
    const n = readSync(fd, target, read, target.length - read, position + read);
    if (n === 0) return false;
    read += n;
  }
  return true;
}
