/** A binary min-heap whose members know their place, so that one whose key changed is moved in O(log n). */
export interface HeapMember {
  /** Place in its heap; -1 outside. Kept by the heap. */
  place: number;
}

export class Heap<M extends HeapMember> {
  readonly #members: M[] = [];
  readonly #before: (a: M, b: M) => boolean;

  constructor(before: (a: M, b: M) => boolean) {
    this.#before = before;
  }

  get size(): number {
    return this.#members.length;
  }

  first(): M | undefined {
    return this.#members[0];
  }

  add(member: M): void {
    member.place = this.#members.length;
    this.#members.push(member);
    this.#up(member);
  }

  remove(member: M): void {
    const { place } = member;
    const last = this.#members.pop();
    member.place = -1;
    if (!last || last === member) return;
    last.place = place;
    this.#members[place] = last;
    this.moved(last);
  }

  /** To be called after a member's key has changed. */
  moved(member: M): void {
    this.#up(member);
    this.#down(member);
  }

  #up(member: M): void {
    const members = this.#members;
    let { place } = member;
    while (place > 0) {
      const parent = members[(place - 1) >> 1]!;
      if (!this.#before(member, parent)) break;
      this.#put(parent, place);
      place = (place - 1) >> 1;
    }
    this.#put(member, place);
  }

  #down(member: M): void {
    const members = this.#members;
    let { place } = member;
    for (let child = 2 * place + 1; child < members.length; child = 2 * place + 1) {
      if (child + 1 < members.length && this.#before(members[child + 1]!, members[child]!)) child++;
      if (!this.#before(members[child]!, member)) break;
      this.#put(members[child]!, place);
      place = child;
    }
    this.#put(member, place);
  }

  #put(member: M, place: number): void {
    this.#members[place] = member;
    member.place = place;
  }
}
