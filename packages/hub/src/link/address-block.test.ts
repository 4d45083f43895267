import type { IncomingMessage } from "node:http";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addressBlock, createClientAddress } from "./address-block.ts";

describe("the block of an address", () => {
  it.each([
    ["8.8.8.8", "8.8.8.0/24"],
    ["8.8.8.255", "8.8.8.0/24"],
    ["::ffff:8.8.8.8", "8.8.8.0/24"],
    ["2A00:1450:4001:81b::200e", "2a00:1450:4001::/48"],
    ["2a00:1450:4001:ffff:1:2:3:4", "2a00:1450:4001::/48"],
    ["2a00::1", "2a00:0:0::/48"],
    ["2a00::2:3:4:5:6:7", "2a00:0:2::/48"],
    ["2a00:0b:c::8.8.8.8", "2a00:b:c::/48"],
  ])("%s is in %s", (address, block) => {
    expect(addressBlock(address)).toBe(block);
  });

  it.each(["127.0.0.1", "::1", "10.1.2.3", "192.168.7.7", "172.31.0.1", "100.64.0.1", "169.254.1.1"])(
    "%s is local: it has none",
    (address) => expect(addressBlock(address)).toBeNull(),
  );

  it.each(["fd00::1", "fe80::1%eth0", "::ffff:10.0.0.1", "", "nobody", "8.8.8", "::"])(
    "%j is local or no address: it has none",
    (address) => expect(addressBlock(address)).toBeNull(),
  );

  it("is one for all addresses that differ only after it, and never throws", () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.nat(255), (address, last) => {
        expect(addressBlock(address.replace(/\d+$/, String(last)))).toBe(addressBlock(address));
      }),
    );
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        const block = addressBlock(address);
        if (block?.endsWith("/48")) expect(addressBlock(block.replace("::/48", ":7::9"))).toBe(block);
      }),
    );
  });
});

describe("the address of a connection", () => {
  const ask = (trusted: string[], remoteAddress: string, forwarded?: string) =>
    createClientAddress(trusted)({
      socket: { remoteAddress },
      headers: forwarded === undefined ? {} : { "x-forwarded-for": forwarded },
    } as unknown as IncomingMessage);

  it("is what the socket says, whatever a header claims", () => {
    expect(ask([], "8.8.8.8", "9.9.9.9")).toBe("8.8.8.8");
    expect(ask(["10.0.0.0/8"], "8.8.8.8", "9.9.9.9")).toBe("8.8.8.8");
    expect(ask([], "::ffff:8.8.8.8")).toBe("8.8.8.8");
  });

  it("is what trusted proxies say, and nothing before the first that is not trusted", () => {
    expect(ask(["10.0.0.0/8"], "10.0.0.5", "9.9.9.9")).toBe("9.9.9.9");
    expect(ask(["10.0.0.0/8"], "::ffff:10.0.0.5", "1.1.1.1, 9.9.9.9, 10.0.0.6")).toBe("9.9.9.9");
    expect(ask(["10.0.0.5", "2a00::/16"], "2a00::5", "2a01::1")).toBe("2a01::1");
  });

  it("is the proxy's own where it tells none, and nothing where it tells nonsense", () => {
    expect(ask(["10.0.0.0/8"], "10.0.0.5")).toBe("10.0.0.5");
    expect(ask(["10.0.0.0/8"], "10.0.0.5", "10.0.0.7")).toBe("10.0.0.7");
    expect(ask(["10.0.0.0/8"], "10.0.0.5", "unknown")).toBeNull();
    expect(ask([], "")).toBeNull();
  });
});
