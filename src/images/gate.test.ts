import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Gate } from "./gate.ts";

test("no more run at the same time than there are places, and all run, whatever becomes of the others", async () => {
  const gate = new Gate(2);
  let running = 0;
  let most = 0;
  const results = await Promise.allSettled(
    Array.from({ length: 9 }, (_, i) =>
      gate.run(async () => {
        most = Math.max(most, ++running);
        await sleep(5);
        running--;
        if (i % 3 === 0) throw new Error("no");
        return i;
      }),
    ),
  );
  expect(most).toBe(2);
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(6);
  expect(await gate.run(async () => "still open")).toBe("still open");
});
