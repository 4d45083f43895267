/** Ids of items name the response they belong to, so that an item is found by its id alone. */

/** `resp_X` and 2 → `msg_X_2`; items of the input are counted apart. */
export const outputItemId = (responseId: string, prefix: string, index: number): string =>
  `${prefix}_${tailOf(responseId)}_${index}`;
export const inputItemId = (responseId: string, prefix: string, index: number): string =>
  `${prefix}_${tailOf(responseId)}_i${index}`;

/** The response whose item has such an id, or null where the id is none of ours. */
export function responseIdOf(itemId: string): string | null {
  const tail = /^[a-z]{1,8}_([0-9a-z]{26})_i?\d{1,5}$/.exec(itemId)?.[1];
  return tail === undefined ? null : `resp_${tail}`;
}

const tailOf = (responseId: string): string => responseId.slice("resp_".length);
