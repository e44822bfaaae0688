/** A published model's tokenizers alone, for models whose weights are here as single files. */
import { join } from "node:path";
import { ModelInvalidError } from "../../errors.ts";
import { downloadFile } from "./download-file.ts";
import type { DownloadEvent } from "./download-model.ts";
import type { HubClient } from "./hub-client.ts";

export interface DownloadTokenizersOptions {
  client: HubClient;
  /** `owner/name`. */
  repository: string;
  /** Where `tokenizer/` and `tokenizer_2/` go. */
  folder: string;
  onProgress: (event: DownloadEvent) => void;
}

/**
 * Brings what the repository's `main` has now: a few megabytes. Throws `model_not_found`, `model_invalid`, `access_denied`,
 * `download_failed`, `io_failed`, and the client signal's reason.
 */
export async function downloadTokenizers({ client, repository, folder, onProgress }: DownloadTokenizersOptions) {
  const { commit } = await client.revision(repository, "main");
  const files = (await client.files(repository, commit)).filter(({ path }) =>
    /^tokenizer(?:_2)?\/[^/]+\.(?:json|txt)$/.test(path),
  );
  for (const part of ["tokenizer/", "tokenizer_2/"]) {
    if (!files.some(({ path }) => path.startsWith(part))) {
      throw new ModelInvalidError(`${repository} has no ${part}; give a folder that has it with --tokenizers.`);
    }
  }
  onProgress({ type: "plan", files: files.map(({ path, sizeBytes }) => ({ path, sizeBytes, receivedBytes: 0 })) });
  for (const file of files) {
    await downloadFile(client, {
      repository,
      commit,
      file,
      path: join(folder, file.path),
      signal: client.signal,
      onBytes: (receivedBytes) => onProgress({ type: "bytes", path: file.path, receivedBytes }),
    });
  }
}
