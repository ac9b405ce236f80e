import Sequencer from "@jest/test-sequencer";

/** Tests with whole replicas and servers lie here; those of a part, beside it. */
const isWhole = (test) => test.path.includes("/test/");

/**
 * Tests with whole replicas go first: they take the longest, and one of them begun last would run alone at the end. A
 * fresh clone has no times of earlier runs to go by, and jest orders by the size of the files then.
 */
export default class WholeMachinesFirst extends Sequencer {
  sort(tests) {
    return super.sort(tests).sort((a, b) => Number(isWhole(b)) - Number(isWhole(a)));
  }
}
