/** How many sockets of one address may be there before it is proved whose node they are. */

/** A whole rack that comes back at once fits into it. */
export const STRANGERS_PER_ADDRESS_MAX = 256;

/**
 * Counts a stranger of an address; gives how to count it no more, which may be called again, or null where there are
 * too many. Of no known address (null) there may be any number.
 */
export type Meet = (address: string | null) => (() => void) | null;

export function createStrangers(): Meet {
  const counts = new Map<string, number>();
  return (address) => {
    if (address === null) return () => {};
    const count = counts.get(address) ?? 0;
    if (count >= STRANGERS_PER_ADDRESS_MAX) return null;
    counts.set(address, count + 1);
    let counted = true;
    return () => {
      if (!counted) return;
      counted = false;
      const left = counts.get(address)! - 1;
      if (left === 0) counts.delete(address);
      else counts.set(address, left);
    };
  };
}
