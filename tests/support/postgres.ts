/** A PostgreSQL server of its own, on a Unix socket in a scratch folder, for tests; undefined where there is none. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";

export interface PostgresServer extends AsyncDisposable {
  /** A `postgres://` address of an empty database. */
  newDatabase(): Promise<string>;
}

/** Starts it, or says aloud that there is none to start. */
export async function startPostgres(): Promise<PostgresServer | undefined> {
  const bin = findBinaries();
  if (bin === undefined) {
    process.stderr.write(
      "SKIPPED: there is no PostgreSQL here (Debian's package: postgresql), so its tests did not run.\n",
    );
    return undefined;
  }
  const folder = mkdtempSync(join(tmpdir(), "easel-pg-"));
  // PostgreSQL refuses to run as root; "nobody" will do.
  const user = process.getuid?.() === 0 ? nobody() : {};
  if (user.uid !== undefined && user.gid !== undefined) chownSync(folder, user.uid, user.gid);
  const data = join(folder, "data");
  const initialized = spawnSync(join(bin, "initdb"), ["-D", data, "-U", "easel", "-A", "trust", "--no-sync"], {
    ...user,
    encoding: "utf8",
  });
  if (initialized.status !== 0) throw new Error(`initdb failed: ${initialized.stderr}`);

  const settings = ["listen_addresses=", `unix_socket_directories=${folder}`, "fsync=off", "max_connections=40"];
  const args = ["-D", data, ...settings.flatMap((setting) => ["-c", setting])];
  const server = spawn(join(bin, "postgres"), args, { ...user, stdio: ["ignore", "ignore", "pipe"] });
  await untilReady(server);
  let databases = 0;
  return {
    async newDatabase() {
      const name = `easel_${++databases}`;
      const created = spawnSync("createdb", ["-h", folder, "-U", "easel", name], {
        ...user,
        env: { ...process.env, PATH: `${bin}:${process.env["PATH"]}` },
        encoding: "utf8",
      });
      if (created.status !== 0) throw new Error(`createdb failed: ${created.stderr}`);
      return `postgres://easel@/${name}?host=${encodeURIComponent(folder)}`;
    },
    async [Symbol.asyncDispose]() {
      const exited = once(server, "exit");
      // Its "fast shutdown".
      server.kill("SIGINT");
      await exited;
      rmSync(folder, { recursive: true });
    },
  };
}

function findBinaries(): string | undefined {
  const debian = "/usr/lib/postgresql";
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [
    ...versions.map((version) => join(debian, version, "bin")),
    ...(process.env["PATH"] ?? "").split(":"),
  ];
  return folders.find((folder) => ["initdb", "postgres", "createdb"].every((name) => existsSync(join(folder, name))));
}

function nobody(): { uid?: number; gid?: number } {
  const [uid, gid] = ["-u", "-g"].map((flag) => Number(spawnSync("id", [flag, "nobody"], { encoding: "utf8" }).stdout));
  return uid === undefined || gid === undefined ? {} : { uid, gid };
}

async function untilReady(server: ChildProcess): Promise<void> {
  let log = "";
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("exit", () => reject(new Error(`postgres ended: ${log}`)));
  server.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    log += chunk;
    if (log.includes("ready to accept connections")) resolve();
  });
  await promise;
}
