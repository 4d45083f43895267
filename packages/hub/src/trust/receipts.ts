import { type SignedReceipt, type Usage, verifySignature } from "@gfe/protocol";

/** The usage that a node signed for an attempt, or null where the receipt is absent, foreign or badly signed. */
export async function checkedUsage(
  signed: SignedReceipt | undefined,
  expected: { attemptId: string; nodeKey: string | undefined },
): Promise<Usage | null> {
  if (!signed || expected.nodeKey === undefined) return null;
  const { receipt, signature } = signed;
  if (receipt.attempt !== expected.attemptId || receipt.node_key !== expected.nodeKey) return null;
  return (await verifySignature(expected.nodeKey, receipt, signature)) ? receipt.usage : null;
}
