import type { FastifyRequest } from "fastify";
import { EaselError } from "../errors.ts";
import type { KeyStore } from "../store/keys.ts";

/** A hook that lets only requests with a stored key pass. Throws `unauthorized`. */
export function requireKey(keys: KeyStore): (request: FastifyRequest) => Promise<void> {
  return async ({ headers }) => {
    const key = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? "")?.[1];
    if (key === undefined) {
      throw new EaselError("unauthorized", "An API key is required; send it as Authorization: Bearer YOUR_KEY.");
    }
    if (!(await keys.verify(key))) {
      throw new EaselError("unauthorized", "The API key is wrong; check it, or create a new one.");
    }
  };
}
