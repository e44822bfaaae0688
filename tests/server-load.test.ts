import { expect, test } from "vitest";
import { loadApi } from "../bench/api-load.ts";
import { percentile } from "../bench/measure.ts";
import { startServer } from "./support/easel-server.ts";

/** Longer on demand: EASEL_LOAD_SECONDS=60 vitest run tests/server-load.test.ts */
const seconds = Number(process.env["EASEL_LOAD_SECONDS"] ?? 5);

test(
  "of 200 clients at once, some of whom leave, nobody's picture is lost and nothing is charged twice",
  { timeout: (seconds + 295) * 1000 },
  async () => {
    await using server = await startServer({ EASEL_QUEUE_BOUND: "100", EASEL_QUEUE_BOUND_PER_KEY: "40" });
    const named = async (name: string) => ({ name, key: (await server.keys.create(name)).key });
    const [stayers, leavers] = [await Promise.all(["a", "b", "c", "d"].map(named)), await named("leavers")];
    // Throws when an answer is anything but a picture or a full queue's, or when the usage is not what arrived.
    const { modelListMs, ...counts } = await loadApi({
      url: server.url,
      adminKey: server.key,
      stayers,
      leavers,
      seconds,
      clients: 200,
    });
    // Clients and server share a thread here; `npm run bench -- api-load` holds the time of the list to its limit.
    console.log({ ...counts, modelListP99Ms: Math.round(percentile(modelListMs, 0.99)) });
    expect(counts.drawn).toBeGreaterThan(0);
    expect(counts.refused + counts.resent + counts.left).toBeGreaterThan(0);
    expect(server.jobs.inHand).toBe(0);
  },
);
