import { test } from "vitest";
import { writeFileSync } from "node:fs";
import { startServer, longRequest } from "/work/wt-api/tests/support/easel-server.ts";
import { form, noise, leftHalfTransparent } from "/work/wt-api/tests/support/forms.ts";
const out: string[] = [];
const say = (...a: unknown[]) => out.push(a.map((x) => typeof x === "string" ? x : JSON.stringify(x, (k, v) => k === "b64_json" ? String(v).length + " chars" : v)).join(" "));
test("walk", async () => {
  const s = await startServer({EASEL_PUBLIC_URL: ""});
  const j = async (r: Response) => { const t = await r.text(); try { return JSON.parse(t); } catch { return t.slice(0, 300); } };
  const small = { prompt: "a cat", size: "32x32", steps: 2 };
  const hdr = { authorization: `Bearer ${s.key}` };
  for (const p of ["/v1/images/generations", "/images/generations", "//images/generations", "/v1/v1/images/generations", "/v1//images/generations", "/v1/images/generations?=", "/v1/images/generations/", "/V1/images/generations"]) {
    const r = await s.fetch(p, small); say(p, r.status, r.status === 200 ? "" : await j(r));
    if (r.status===200) await r.text();
  }
  for (const p of ["/models", "/v1/models", "/model/info", "/v1/model/info", "//models", "/v1/v1/models", "/usage", "/healthz", "/v1/healthz", "/readyz", "/metrics", "/v1/metrics", "/openapi.json", "/v1/openapi.json", "/docs", "/"]) { const r = await s.fetch(p); say("GET", p, r.status); if (p.endsWith("models") && p === "/models") say(await j(r)); else if (p==="/model/info") say(await j(r)); else await r.text(); }
  say("all params", await j(await s.fetch("/v1/images/generations", { ...small, model: "flux-dev-tiny", n: 2, seed: 5, guidance_scale: 3, negative_prompt: "dog", lora: null, upscale: 2, quality: "hd", style: "realistic", moderation: "low", user: "me", background: "auto", output_format: "webp", output_compression: 50, response_format: "b64_json", partial_images: 0, stream: false, true_cfg_scale: 2, embed_prompt: false })));
  for (const q of ["low", "medium", "high", "hd", "standard", "auto", "ultra"]) { const b: any = { ...small, quality: q }; delete b.steps; const r = await s.fetch("/v1/images/jobs", b); const job = await j(r); if (r.status !== 202) { say("quality", q, r.status, job); continue; } const ev = await (await s.fetch(`/v1/images/jobs/${job.id}/events`)).text(); say("quality", q, /"steps":(\d+)/.exec(ev)?.[1], (await j(await s.fetch(`/v1/images/jobs/${job.id}`))).result?.quality); }
  for (const bad of [{ n: 11 }, { n: "2" }, { size: "big" }, { size: "100x100" }, { seed: -1 }, { seed: 1.5 }, { steps: 0 }, { guidance_scale: "x" }, { lora: "none" }, { upscale: 3 }, { response_format: "x" }, { output_format: "gif" }, { output_compression: 101 }, { background: "transparent" }, { stream: "yes" }, { partial_images: 4, stream: true }, { partial_images: 1 }, { style: 7 }, { moderation: 3 }, { user: 5 }, { model: "none" }, { model: 7 }, { prompt: "" }, { prompt: 5 }, { negative_prompt: 3 }, { stream: true, response_format: "url" }, { webhook_url: 5 }, { embed_prompt: "x" }, { max_sequence_length: 0 }, { true_cfg_scale: 101 }, { quality: 5 }]) { const r = await s.fetch("/v1/images/generations", { ...small, ...bad }); const b = await j(r); say(bad, r.status, b.error?.param, b.error?.code, b.error?.message, "|", r.statusText); }
  const photo = await noise(64, 48).png().toBuffer();
  const mask = await leftHalfTransparent(noise(64, 48), 64, 48);
  const post = (route: string, f: any, h: any = {}) => fetch(`${s.url}${route}`, { method: "POST", body: form(f), headers: { ...hdr, ...h } });
  say("edit url", await j(await post("/v1/images/edits", { image: photo, mask, prompt: "x", steps: "2", response_format: "url", output_format: "jpeg", output_compression: "50", quality: "low" })));
  say("variation", await j(await post("/images/variations", { image: photo, steps: "2" })));
  say("upscale", await j(await post("/v1/images/upscale", { image: photo, scale: "4" })));
  const es = await post("/v1/images/edits", { image: photo, prompt: "x", steps: "4", stream: "true", partial_images: "2" });
  say("edit stream", (await es.text()).replace(/"b64_json":"[^"]*"/g, '"b64_json":"…"'));
  const gs = await s.fetch("/v1/images/generations", { ...small, n: 2, stream: true, partial_images: 1 });
  say("gen stream", [...gs.headers].map(String), (await gs.text()).replace(/"b64_json":"[^"]*"/g, '"b64_json":"…"'));
  // identical in flight, edits
  const before = (await j(await s.fetch("/v1/usage"))).data;
  const same = await Promise.all([1, 2, 3].map(async () => (await j(await post("/v1/images/edits", { image: photo, prompt: "same", steps: "30", seed: "3" }))).data?.[0]?.b64_json));
  say("identical edits equal", new Set(same).size, "requests", (await j(await s.fetch("/v1/usage"))).data[0].requests - before[0].requests);
  const idem = [1, 2].map(() => post("/v1/images/edits", { image: photo, prompt: "idem", steps: "30" }, { "idempotency-key": "k1" }));
  const idemR = await Promise.all((await Promise.all(idem)).map(j));
  say("idempotent edits equal", idemR[0].data[0].b64_json === idemR[1].data[0].b64_json, (await j(await s.fetch("/v1/usage"))).data[0].requests);
  const r2 = await post("/v1/images/edits", { image: mask, prompt: "idem", steps: "30" }, { "idempotency-key": "k1" });
  say("other picture same key", r2.status, await j(r2));
  say("usage", await j(await s.fetch("/v1/usage")), await j(await s.fetch("/v1/usage?format=csv")));
  const h = await fetch(s.url + "/healthz"); say([...h.headers].map(String));
  const e = await s.fetch("/v1/nothing"); say(e.status, e.statusText, [...e.headers].map(String), await j(e));
  say(await j(await s.fetch("/metrics")).toString().slice(0, 0), (await (await s.fetch("/metrics")).text()).split("\n").filter((l) => l.startsWith("# HELP")).join("\n"));
  const doc = await j(await fetch(s.url + "/openapi.json"));
  say(Object.entries(doc.paths).map(([p, m]: any) => Object.entries(m).map(([k, v]: any) => [k, p, v.summary, v.parameters?.map((x: any) => `${x.in}:${x.name}`), Object.keys(v.responses), Object.keys(v.requestBody?.content ?? {})].join(" ")).join("\n")).join("\n"));
  writeFileSync("/tmp/walk/openapi.json", JSON.stringify(doc, null, 1));
  const job = await j(await s.fetch("/v1/images/jobs", longRequest)); say("job", job);
  const del = await fetch(`${s.url}/v1/images/jobs/${job.id}`, { method: "DELETE", headers: hdr }); say("delete", del.status, await j(del));
  const r = await fetch(`${s.url}/v1/images/generations`, { method: "PUT", headers: hdr }); say("PUT", r.status, await j(r));
  const no = await fetch(`${s.url}/v1/images/generations`, { method: "POST", body: "{}" }); say("no key", no.status, no.statusText, await j(no));
  const nj = await fetch(`${s.url}/v1/images/generations`, { method: "POST", body: "{", headers: { ...hdr, "content-type": "application/json" } }); say("bad json", nj.status, nj.statusText, await j(nj));
  const tx = await fetch(`${s.url}/v1/images/generations`, { method: "POST", body: "prompt=x", headers: { ...hdr, "content-type": "application/x-www-form-urlencoded" } }); say("urlencoded", tx.status, await j(tx));
  say("keys in log", s.log.join("").includes(s.key), "prompts in log", s.log.join("").includes("a cat"));
  await s[Symbol.asyncDispose]();
  writeFileSync("/tmp/walk/out.txt", out.join("\n"));
}, 120000);
