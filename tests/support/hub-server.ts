/**
 * A server on 127.0.0.1 that speaks the Hugging Face Hub's protocol for one model, with a content server on another
 * port, as the real Hub has one on another host; and that fails in all the ways that a network can.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

/** How one answer goes wrong. */
export type Fault =
  | { status: number; headers?: Record<string, string> }
  /** The connection breaks, goes silent, or ends in good order, after so many bytes. */
  | { cutAfter: number }
  | { stallAfter: number }
  | { endAfter: number }
  /** The first byte sent is another. */
  | { damaged: true }
  | { ignoresRange: true }
  | { redirectTo: string };

export interface HubRequest {
  server: "hub" | "content";
  /** Of the file; of the API the address. */
  path: string;
  authorization: string | undefined;
  range: string | undefined;
}

export interface TreeEntry {
  type: string;
  path: string;
  oid: string;
  size: number;
  lfs?: { oid: string; size: number; pointerSize: number };
}

export interface HubServer extends AsyncDisposable {
  url: string;
  /** The Hub's and the content server's requests in order. */
  requests: HubRequest[];
  /** What goes wrong with a request; consulted for each. */
  fault: (request: HubRequest) => Fault | undefined;
  /** The list of files, which a test may spoil. */
  tree: TreeEntry[];
  /** The content of files, by path. */
  files: Map<string, Buffer>;
  /** The commit of `main`; every file is served for it alone. */
  commit: string;
  /** When set, files need this token. */
  requiredToken: string | undefined;
  /** Files per page of the list. */
  pageSize: number;
  /** Requests for a file's bytes. */
  requestsFor(path: string): HubRequest[];
  /** Puts a file into the model, or another content into a file. */
  put(path: string, content: Buffer): void;
}

export interface HubServerOptions {
  repository: string;
  /** The model's folder. */
  folder: string;
}

export async function startHub({ repository, folder }: HubServerOptions): Promise<HubServer> {
  const state: Omit<HubServer, "url" | typeof Symbol.asyncDispose> = {
    requests: [],
    fault: () => undefined,
    tree: [],
    files: new Map(),
    commit: "a".repeat(40),
    requiredToken: undefined,
    pageSize: 6,
    requestsFor: (path) => state.requests.filter((request) => request.path === path),
    put(path, content) {
      state.files.set(path, content);
      state.tree = [...state.tree.filter((entry) => entry.path !== path), describe(path, content)];
    },
  };
  for (const path of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (statSync(join(folder, path)).isFile()) state.put(path, readFileSync(join(folder, path)));
    else state.tree.push({ type: "directory", path, oid: "0".repeat(40), size: 0 });
  }

  const content = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? "").slice("/content/".length);
    const fault = record("content", path, request);
    send(request, response, state.files.get(path) ?? Buffer.alloc(0), fault);
  });
  const contentUrl = await listen(content);

  const hub = createServer((request, response) => {
    const url = new URL(request.url ?? "", "http://hub");
    const api = `/api/models/${repository}`;
    const resolve = `/${repository}/resolve/${state.commit}/`;
    const path = url.pathname.startsWith(resolve)
      ? decodeURIComponent(url.pathname.slice(resolve.length))
      : url.pathname;
    const fault = record("hub", path, request);
    if (fault && "status" in fault) return refuse(response, fault.status, fault.headers);
    if (fault && "redirectTo" in fault) return void response.writeHead(302, { location: fault.redirectTo }).end();

    if (url.pathname.startsWith(`${api}/revision/`)) {
      const revision = decodeURIComponent(url.pathname.slice(`${api}/revision/`.length));
      if (revision !== "main" && revision !== state.commit) {
        return refuse(response, 404, { "x-error-code": "RevisionNotFound" });
      }
      return json(response, {
        id: repository,
        sha: state.commit,
        cardData: { license: "other", license_name: "tiny" },
      });
    }
    if (url.pathname === `${api}/tree/${state.commit}`) {
      const from = Number(url.searchParams.get("cursor") ?? 0);
      const next = from + state.pageSize;
      url.searchParams.set("cursor", String(next));
      const link = `<http://${request.headers.host}${url.pathname}${url.search}>; rel="next"`;
      return json(response, state.tree.slice(from, next), next < state.tree.length ? { link } : {});
    }
    const file = state.files.get(path);
    if (!file)
      return refuse(response, url.pathname.includes(repository) ? 404 : 401, { "x-error-code": "RepoNotFound" });
    if (state.requiredToken !== undefined && request.headers.authorization !== `Bearer ${state.requiredToken}`) {
      return refuse(response, request.headers.authorization ? 403 : 401, { "x-error-code": "GatedRepo" });
    }
    const entry = state.tree.find((candidate) => candidate.path === path);
    response.setHeader("x-repo-commit", state.commit);
    if (!entry?.lfs) return send(request, response, file, fault);
    const { oid, size } = entry.lfs;
    response
      .writeHead(302, { location: `${contentUrl}/content/${path}`, "x-linked-etag": `"${oid}"`, "x-linked-size": size })
      .end();
  });

  function record(server: HubRequest["server"], path: string, { headers }: IncomingMessage): Fault | undefined {
    const request = { server, path, authorization: headers.authorization, range: headers.range };
    state.requests.push(request);
    return state.fault(request);
  }

  const url = await listen(hub);
  return Object.assign(state, {
    url,
    async [Symbol.asyncDispose]() {
      for (const server of [hub, content]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  });
}

function describe(path: string, content: Buffer): TreeEntry {
  const size = content.length;
  const oid = createHash("sha1").update(`blob ${size}\0`).update(content).digest("hex");
  if (!path.endsWith(".safetensors")) return { type: "file", path, oid, size };
  const sha256 = createHash("sha256").update(content).digest("hex");
  return { type: "file", path, oid, size, lfs: { oid: sha256, size, pointerSize: 134 } };
}

function send(request: IncomingMessage, response: ServerResponse, file: Buffer, fault: Fault | undefined): void {
  if (fault && "status" in fault) return refuse(response, fault.status, fault.headers);
  const start =
    fault && "ignoresRange" in fault ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const body = Buffer.from(file.subarray(start));
  if (fault && "damaged" in fault) body[0] = body[0]! ^ 1;
  const headers = { "content-length": body.length, etag: '"of-the-content-server"' };
  if (start > 0) {
    response.writeHead(206, { ...headers, "content-range": `bytes ${start}-${file.length - 1}/${file.length}` });
  } else response.writeHead(200, fault && "endAfter" in fault ? { etag: headers.etag } : headers);

  if (fault && "cutAfter" in fault) {
    response.write(body.subarray(0, fault.cutAfter), () => response.destroy());
  } else if (fault && "stallAfter" in fault) response.write(body.subarray(0, fault.stallAfter));
  else response.end(fault && "endAfter" in fault ? body.subarray(0, fault.endAfter) : body);
}

function json(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(`{"error":"${status}"}`);
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
