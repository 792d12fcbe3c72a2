// The worker's own operations in a loop, without any communication: what the bridge is compared with.

import { operations } from '../signal_protocol/worker/operations.js';
import { serve } from '../signal_protocol/worker/serve.js';

const SLICE_MS = 1; // as the worker does, so that finalizers run

// Returns how often an operation ran in the given time, and the latencies at p50 and p99, in microseconds.
async function measure(name, args, milliseconds) {
  const latencies = [];
  const start = performance.now();
  let slice = start;
  for (;;) {
    const before = performance.now();
    if (before - start >= milliseconds) break;
    if (before - slice >= SLICE_MS) {
      await new Promise(setImmediate);
      slice = performance.now();
    }
    await operations[name](...args);
    latencies.push(Math.round((performance.now() - before) * 1000));
  }
  const elapsed = performance.now() - start;
  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.floor(share * (latencies.length - 1))];
  return [Math.round((latencies.length * 1000) / elapsed), at(0.5), at(0.99)];
}

serve({ measure }, Number(process.argv[2]));
