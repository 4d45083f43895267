import type { LookupAddress } from "node:dns";
import { describe, expect, test } from "vitest";
import { isPublicAddress, publicLookup, refuseAddress } from "./addresses.ts";

describe("an address is public only where strangers may send the hub to it", () => {
  test.each([
    "8.8.8.8",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:830::200e",
  ])("%s is", (address) => expect(isPublicAddress(address)).toBe(true));

  test.each([
    ["loopback", "127.0.0.1"],
    ["loopback, the rest of it", "127.9.8.7"],
    ["private", "10.1.2.3"],
    ["private", "172.16.0.1"],
    ["private", "172.31.255.255"],
    ["private", "192.168.1.1"],
    ["link-local: metadata services", "169.254.169.254"],
    ["carriers' NAT", "100.64.0.1"],
    ["this network", "0.0.0.0"],
    ["multicast", "224.0.0.1"],
    ["broadcast", "255.255.255.255"],
    ["documentation", "203.0.113.7"],
    ["IPv6 loopback", "::1"],
    ["IPv6 unspecified", "::"],
    ["IPv6 unique local: metadata services", "fd00:ec2::254"],
    ["IPv6 link-local", "fe80::1"],
    ["IPv6 multicast", "ff02::1"],
    ["IPv4 in IPv6", "::ffff:127.0.0.1"],
    ["IPv4 in IPv6, in hexadecimal", "::ffff:7f00:1"],
    ["NAT64", "64:ff9b::7f00:1"],
    ["6to4", "2002:7f00:1::"],
    ["Teredo", "2001:0:4136:e378::1"],
    ["documentation", "2001:db8::1"],
    ["no address", "localhost"],
  ])("%s is not: %s", (_what, address) => expect(isPublicAddress(address)).toBe(false));
});

describe("a webhook's address is refused when it is made", () => {
  test.each([
    ["http://example.org/hook", "https"],
    ["ftp://example.org/", "https"],
    ["file:///etc/passwd", "https"],
    ["nonsense", "must be an address"],
    ["https://user:secret@example.org/", "password"],
    ["https://127.0.0.1/", "public"],
    ["https://0x7f000001/", "public"],
    ["https://2130706433/", "public"],
    ["https://127.1/", "public"],
    ["https://[::1]/", "public"],
    ["https://[::ffff:10.0.0.1]/", "public"],
    [`https://example.org/${"x".repeat(2_000)}`, "must be an address"],
  ])("%s", (url, words) => {
    expect(() => refuseAddress(url, false)).toThrow(words);
  });

  test("and taken where it is public, or a test allows what is not", () => {
    refuseAddress("https://example.org:8443/hook?x=1", false);
    refuseAddress("http://127.0.0.1:9/", true);
    expect(() => refuseAddress("ftp://127.0.0.1/", true)).toThrow("https");
  });
});

describe("a name is judged by what it leads to, in the look-up of the connection itself", () => {
  const look = (addresses: LookupAddress[], all: boolean) =>
    new Promise((resolve, reject) => {
      const lookup = publicLookup((_name, _options, callback) => callback(null, addresses));
      lookup("hook.example", { all }, (error, address, family) =>
        error ? reject(error) : resolve(all ? address : [address, family]),
      );
    });
  const open = { address: "8.8.8.8", family: 4 };

  test("public ones pass, in the shape that was asked for", async () => {
    expect(await look([open], false)).toEqual(["8.8.8.8", 4]);
    expect(await look([open], true)).toEqual([open]);
  });

  test("one that is not public spoils all, wherever it stands", async () => {
    const closed = { address: "10.0.0.1", family: 4 };
    for (const addresses of [[closed], [open, closed], [closed, open], [{ address: "::1", family: 6 }], []])
      for (const all of [true, false]) await expect(look(addresses, all)).rejects.toThrow();
  });
});
