import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { isPublic, post } from "./public-address.ts";

test.each([
  ["93.184.216.34", true],
  ["8.8.8.8", true],
  ["2606:4700:4700::1111", true],
  ["0.0.0.0", false],
  ["10.1.2.3", false],
  ["100.64.0.1", false],
  ["127.0.0.1", false],
  ["169.254.169.254", false],
  ["172.16.0.1", false],
  ["172.31.255.255", false],
  ["172.32.0.1", true],
  ["192.168.1.1", false],
  ["198.18.0.1", false],
  ["224.0.0.1", false],
  ["255.255.255.255", false],
  ["::", false],
  ["::1", false],
  ["::ffff:127.0.0.1", false],
  ["::ffff:8.8.8.8", false],
  ["64:ff9b::7f00:1", false],
  ["fc00::1", false],
  ["fe80::1", false],
  ["ff02::1", false],
  ["2001:db8::1", false],
  ["2002:7f00:1::", false],
  ["not an address", false],
])("whether %s is public: %s", (address, expected) => {
  expect(isPublic(address)).toBe(expected);
});

test("the connection goes to the address that was checked, whatever the name means now", async () => {
  const hosts: (string | undefined)[] = [];
  const receiver = createServer((request, response) => {
    hosts.push(request.headers.host);
    response.writeHead(204).end();
  });
  await new Promise<void>((listening) => receiver.listen(0, "127.0.0.1", listening));
  const { port } = receiver.address() as AddressInfo;
  const url = new URL(`http://no-such-host.invalid:${port}/hook`);
  const target = { url, addresses: [{ address: "127.0.0.1", family: 4 }] };
  expect(await post(target, { headers: {}, body: "{}", timeoutMs: 5000 })).toBe(204);
  expect(hosts).toEqual([`no-such-host.invalid:${port}`]);
  receiver.close();
});

test("a receiver that never answers is left after a while", async () => {
  const receiver = createServer(() => {});
  await new Promise<void>((listening) => receiver.listen(0, "127.0.0.1", listening));
  const { port } = receiver.address() as AddressInfo;
  const target = { url: new URL(`http://127.0.0.1:${port}/`), addresses: [{ address: "127.0.0.1", family: 4 }] };
  await expect(post(target, { headers: {}, body: "{}", timeoutMs: 50 })).rejects.toThrow();
  receiver.closeAllConnections();
  receiver.close();
});
