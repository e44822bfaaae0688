/** One file of a commit: resumed where it stopped, proven by its hash, and only then under its name. */
import { EaselError } from "../../errors.ts";
import type { HubClient, HubFile } from "./hub-client.ts";
import { isPresent, PartialFile } from "./partial-file.ts";
import { PassingFault, withRetries } from "./retries.ts";

export interface DownloadFileOptions {
  repository: string;
  commit: string;
  file: HubFile;
  /** Where the file goes. */
  path: string;
  signal: AbortSignal;
  /** Bytes of the file that are here; may fall back to 0 when a damaged download starts anew. */
  onBytes: (receivedBytes: number) => void;
}

/**
 * Does nothing when the file is there. The commit never changes and the hash decides in the end, so a resumed download
 * needs no `If-Range`: whatever answers, only the published bytes pass. Throws `download_failed`, `io_failed`,
 * `access_denied`.
 */
export async function downloadFile(client: HubClient, options: DownloadFileOptions): Promise<void> {
  const { repository, commit, file, path, signal, onBytes } = options;
  if (await isPresent(path, file.sizeBytes)) return onBytes(file.sizeBytes);
  await using partial = await PartialFile.open(path, file, signal);
  onBytes(partial.bytes);

  const fetchRest = async () => {
    if (partial.bytes === file.sizeBytes) return;
    const sink = {
      offset: partial.bytes,
      begin: async (offset: number) => {
        if (offset !== partial.bytes) await partial.restart();
        onBytes(partial.bytes);
      },
      write: async (chunk: Uint8Array) => {
        await partial.append(chunk);
        onBytes(partial.bytes);
      },
    };
    await client.read({ repository, commit, path: file.path }, sink, signal);
    if (partial.bytes < file.sizeBytes) {
      throw new PassingFault("the download ended too early", { progressed: partial.bytes > sink.offset });
    }
  };

  const retry = { signal, pauseMs: client.retryPauseMs, onRetry: client.onNotice };
  for (let damaged = 0; ; damaged++) {
    await withRetries(file.path, retry, fetchRest);
    if (await partial.complete()) return;
    await partial.restart();
    onBytes(0);
    if (damaged > 0) {
      throw new EaselError(
        "download_failed",
        `${file.path} arrived damaged twice (its ${file.hash.algorithm} is not the published one) and was dropped; ` +
          `run the same command again, and if it happens again check the network's proxy and the disk.`,
      );
    }
    client.onNotice(`${file.path}: what arrived is damaged, so it is fetched anew.`);
  }
}
