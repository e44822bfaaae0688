/** /docs as somebody meets it who has a browser, a key, and no internet. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findChromium, openBrowser } from "./support/browser.ts";
import { type EaselServer, startServer } from "./support/easel-server.ts";

const chromium = findChromium("The documentation page");

let server: EaselServer;
beforeAll(async () => {
  server = await startServer({ EASEL_MODEL: "easel-sketch" });
});
afterAll(() => server[Symbol.asyncDispose]());

describe.skipIf(chromium === undefined)("the documentation page", () => {
  test("shows every route, takes a key, draws its own example, and reaches for nothing but its server", async () => {
    await using browser = await openBrowser(chromium!);
    const { page, requests, complaints } = browser;
    await page.goto(`${server.url}/docs`);
    await page.locator(".opblock").first().waitFor();
    const shown = await page.locator(".opblock-summary").evaluateAll((summaries) =>
      summaries.map((summary) => {
        const text = (selector: string) => summary.querySelector(selector)?.textContent?.replaceAll("\u200b", "") ?? "";
        return `${text(".opblock-summary-method").toLowerCase()} ${text(".opblock-summary-path")}`;
      }),
    );
    const { paths } = (await (await server.fetch("/openapi.json")).json()) as { paths: Record<string, object> };
    const described = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    );
    expect(shown.toSorted()).toEqual(described.toSorted());

    await page.locator(".auth-wrapper .authorize").click();
    await page.locator(".auth-container input").fill(server.key);
    await page.locator(".auth-btn-wrapper .authorize").click();
    await page.locator(".auth-btn-wrapper .btn-done").click();

    const route = page.locator(".opblock-post", { hasText: "/v1/images/generations" });
    await route.locator(".opblock-summary-control").click();
    await route.locator(".try-out__btn").click();
    await route.locator(".execute").click();
    const live = route.locator(".live-responses-table .response");
    await live.waitFor({ timeout: 50_000 });
    expect(await live.locator(".response-col_status").textContent()).toMatch(/^200/);
    expect(await live.locator(".response-col_description").textContent()).toContain('"b64_json"');

    expect(requests.some((url) => url === `${server.url}/v1/images/generations`)).toBe(true);
    const elsewhere = requests.filter((url) => !/^(data|blob):/.test(url) && new URL(url).origin !== server.url);
    expect(elsewhere).toEqual([]);
    expect(complaints).toEqual([]);
  });
});
