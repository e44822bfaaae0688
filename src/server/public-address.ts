/**
 * Requests to addresses that strangers name, such as webhooks: only to public ones, so that nobody can make this server
 * speak to its neighbours. A name is resolved once, and the connection goes to what was checked.
 */
import { lookup } from "node:dns/promises";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { EaselError } from "../errors.ts";

export interface CheckedTarget {
  url: URL;
  addresses: { address: string; family: number }[];
}

/** IANA's special-purpose registries, and multicast. */
const specialIpv4 = blockList("ipv4", [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3",
]);
const globalIpv6 = blockList("ipv6", ["2000::/3"]);
/** Within it: protocol assignments, documentation, and 6to4, which leads to any IPv4 address. */
const specialIpv6 = blockList("ipv6", ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"]);

/**
 * The address with what its name resolves to. Throws `invalid_request` for `param` when it is no http or https address, has
 * no answer, or, unless `allowPrivate`, is not public.
 */
export async function checkTarget(
  address: string,
  { param, allowPrivate }: { param: string; allowPrivate: boolean },
): Promise<CheckedTarget> {
  const refuse = (why: string) => new EaselError("invalid_request", `${param} ${why}.`, { param });
  const url = URL.parse(address);
  if (!url || !/^https?:$/.test(url.protocol)) throw refuse("must be an http or https address");
  if (url.username !== "" || url.password !== "") throw refuse("must not have a user name or password in it");
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const family = isIP(host);
  const addresses =
    family === 0
      ? await lookup(host, { all: true }).catch(() => {
          throw refuse(`names the host ${host}, which cannot be found`);
        })
      : [{ address: host, family }];
  if (!allowPrivate && !addresses.every(({ address: found }) => isPublic(found))) {
    throw refuse("must lead to a public address, not to a private or loopback one");
  }
  return { url, addresses };
}

/** Whether the address is one that anybody on the internet could have. */
export function isPublic(address: string): boolean {
  if (isIP(address) === 4) return !specialIpv4.check(address, "ipv4");
  return isIP(address) === 6 && globalIpv6.check(address, "ipv6") && !specialIpv6.check(address, "ipv6");
}

/** Posts `body` and returns the answer's status. Redirects are not followed: they could lead anywhere. */
export async function post(
  { url, addresses }: CheckedTarget,
  { headers, body, timeoutMs }: { headers: Record<string, string>; body: string; timeoutMs: number },
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const send = url.protocol === "https:" ? httpsRequest : httpRequest;
  const request = send(url, {
    method: "POST",
    headers: { ...headers, "content-length": Buffer.byteLength(body) },
    lookup: answerWith(addresses),
    // A pooled connection might lead to what the name meant at another time.
    agent: false,
    signal: AbortSignal.timeout(timeoutMs),
  });
  request.on("error", reject).on("response", (response) => {
    // What it says is nobody's business here, and it might never end.
    response.on("error", () => {}).destroy();
    resolve(response.statusCode ?? 0);
  });
  request.end(body);
  return await promise;
}

function answerWith(addresses: CheckedTarget["addresses"]): LookupFunction {
  return (_hostname, options, callback) => {
    const [first] = addresses;
    if (options.all) callback(null, addresses);
    else callback(null, first?.address ?? "", first?.family);
  };
}

function blockList(family: "ipv4" | "ipv6", ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [network = "", prefix] = range.split("/");
    list.addSubnet(network, Number(prefix), family);
  }
  return list;
}
