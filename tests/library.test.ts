import { expect, test } from "vitest";
import { Engine, EaselError, ModelCatalog } from "easel";
import { tinyModelFolder } from "./support/easel-server.ts";

test("a program can draw through the package's own name", async () => {
  await using engine = Engine.start({ catalog: new ModelCatalog({ home: "unused", folders: [tinyModelFolder] }) });
  const generation = await engine.submit({
    model: "flux-dev-tiny",
    prompt: "a cat",
    size: { width: 32, height: 32 },
    seed: 7,
    numInferenceSteps: 1,
  });
  const { images } = await generation.result;
  expect(images).toMatchObject([{ seed: 7, width: 32, height: 32, format: "png" }]);
  await expect(engine.submit({ model: "nothing", prompt: "a cat" })).rejects.toBeInstanceOf(EaselError);
});
