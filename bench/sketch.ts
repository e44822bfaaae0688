/** The built-in model as a user meets it: a cold command line, a warm server, and the server's manners while it draws. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type ServerProcess, startServer } from "./easel-server.ts";
import { type Figure, figure, runCommand, seconds } from "./measure.ts";

const root = join(import.meta.dirname, "..");
const prompt = "A white cat resting in Rome";

export async function benchSketch(options: { rounds: number; python: string | undefined }): Promise<Figure[]> {
  const scratch = mkdtempSync(join(tmpdir(), "easel-bench-"));
  try {
    return [...(await coldCommandLine(scratch, options.rounds)), ...(await warmServer(scratch, options))];
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function coldCommandLine(scratch: string, rounds: number): Promise<Figure[]> {
  const runs = [];
  for (let i = 0; i < rounds; i++) {
    const args = [join(root, "src/cli/main.ts"), "generate", prompt, "--seed", "0", "--out", join(scratch, "cat.png")];
    runs.push(await runCommand(process.execPath, args));
  }
  return [
    figure(
      "easel generate, 256x256, from the command line",
      "s",
      runs.map((run) => run.seconds),
      5,
    ),
    figure(
      "  its peak memory, both processes",
      "MB",
      runs.map((run) => run.peakMb),
      1000,
    ),
  ];
}

async function warmServer(scratch: string, options: { rounds: number; python: string | undefined }): Promise<Figure[]> {
  const server = await startServer(join(scratch, "home"));
  const peer = options.python === undefined ? undefined : await startPeer(options.python);
  try {
    await drawSquare(server, 256); // loads the model
    const small: number[] = [];
    const peerSmall: number[] = [];
    for (let i = 0; i < options.rounds; i++) {
      small.push(await seconds(() => drawSquare(server, 256)));
      if (peer !== undefined) peerSmall.push(await peer.draw());
    }
    const large: number[] = [];
    for (let i = 0; i < Math.min(options.rounds, 5); i++) large.push(await seconds(() => drawSquare(server, 1024)));
    const listing = await listWhileDrawing(server);
    return [
      figure("POST /v1/images/generations, 256x256, warm", "s", small, 2),
      ...(peer === undefined
        ? []
        : [
            figure("  diffusers on PyTorch (CPU), the same picture", "s", peerSmall),
            figure(
              "  diffusers' time over Easel's, pair by pair",
              "x",
              small.map((own, i) => peerSmall[i]! / own),
            ),
          ]),
      figure("POST /v1/images/generations, 1024x1024, warm", "s", large, 8),
      figure("GET /v1/models while a picture is drawn", "ms", listing, 20),
      figure("the server's peak memory, both processes", "MB", [server.stop()], 1000),
    ];
  } finally {
    server.stop();
    peer?.stop();
  }
}

async function drawSquare(server: ServerProcess, size: number): Promise<void> {
  await server.request("/v1/images/generations", { prompt, seed: 0, size: `${size}x${size}` });
}

/** Milliseconds of each model listing, asked one after the other while a large picture is drawn. */
async function listWhileDrawing(server: ServerProcess): Promise<number[]> {
  const times: number[] = [];
  const drawn = drawSquare(server, 1024);
  while ((await Promise.race([drawn, pause()])) === "pause") {
    times.push(1000 * (await seconds(() => server.request("/v1/models"))));
  }
  return times;
}

function pause(): Promise<"pause"> {
  return new Promise((resolve) => setTimeout(resolve, 10, "pause"));
}

/** diffusers in a process of its own, which draws one picture per line it is sent and answers with the seconds. */
async function startPeer(python: string): Promise<{ draw(): Promise<number>; stop(): void }> {
  const child = spawn(
    python,
    [join(root, "bench/peers/diffusers_sketch.py"), join(root, "models/easel-sketch"), prompt],
    {
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const draw = async () => {
    child.stdin.write("draw\n");
    const { value, done } = await lines.next();
    if (done === true) throw new Error("the diffusers peer ended early");
    return Number(value);
  };
  await draw(); // warms it up
  return { draw, stop: () => child.kill() };
}
