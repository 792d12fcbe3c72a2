/** The story of two people and one relay, told on the terminal: `npm run story -- --help`. */

import { randomInt } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { parseArgs } from 'node:util';

import { ErrorCode, LibSignalErrorBase } from '@signalapp/libsignal-client';
import type { Net } from '@signalapp/libsignal-client';

import { Messenger, type ContactCard } from './messenger.ts';
import { register } from './register.ts';
import { netFor } from './relay.ts';
import { Store, type Message } from './store.ts';

const PATIENCE = 60_000; // milliseconds for the whole story; more when somebody has to type

const HELP = `\
Two people talk through a relay: Alice and Bob register, she writes sealed messages, he answers, is away,
comes back, and gets a new phone; each time the devices have changed, the next message is repaired.

  npm run story -- --relay https://localhost:8443 --ca certificate.pem --codes codes.jsonl

  --relay URL      the relay; libsignal connects to localhost only (forward a port to a relay elsewhere)
  --ca FILE        the root certificate that the relay's certificate leads to, PEM
  --codes FILE     where the relay writes verification codes (subrosa relay --verification file:FILE);
                   without it you are asked for each code
  --state FOLDER   keep what the devices know in this folder; a temporary one if not given. Holds private keys
  --alice NUMBER   her telephone number, such as +4915550000101; made up if not given. She and Bob are
  --bob NUMBER     registered anew, and whoever had these numbers on the relay before is signed out
`;

type Options = { net: Net.Net; codes: string | undefined; state: string; numbers: { alice: string; bob: string } };

/** A device with its owner's name, whose messages the story can wait for. */
class Person {
  readonly name: string;
  readonly #net: Net.Net;
  readonly #store: Store;
  readonly #inbox: Message[] = [];
  #messenger: Messenger | undefined;
  #arrived = Promise.withResolvers<void>();

  constructor(name: string, net: Net.Net, file: string) {
    this.name = name;
    this.#net = net;
    this.#store = new Store(file);
  }

  get messenger(): Messenger {
    if (!this.#messenger) throw new Error(`${this.name} is offline`);
    return this.#messenger;
  }

  get store(): Store {
    return this.#store;
  }

  async register(number: string, askForCode: () => Promise<string>, profileKey?: string): Promise<void> {
    const { again } = await register(this.#net, this.#store, number, askForCode, profileKey);
    say(`  ${this.name} is registered${again ? ' again, on a new device' : ''}`);
    await this.goOnline();
    const { count, pqCount } = await this.messenger.topUpPrekeys();
    say(`  ${this.name} has uploaded prekeys: ${count} EC, ${pqCount} Kyber`);
  }

  async goOnline(): Promise<void> {
    this.#messenger = await Messenger.connect(this.#net, this.#store, {
      onMessage: (message) => {
        this.#inbox.push(message);
        this.#arrived.resolve();
      },
      onNotice: (notice) => say(`  (${this.name}: ${notice})`),
    });
  }

  async goOffline(): Promise<void> {
    await this.#messenger?.disconnect();
    this.#messenger = undefined;
  }

  async send(to: ContactCard, body: string): Promise<void> {
    say(`  ${this.name} writes: ${body}`);
    await this.messenger.send(to.aci, body);
  }

  /** Wait for the next message, and read it out. */
  async read(): Promise<void> {
    while (this.#inbox.length === 0) {
      await this.#arrived.promise;
      this.#arrived = Promise.withResolvers<void>();
    }
    const { body, sealed } = this.#inbox.shift()!;
    say(`  ${this.name} reads:  ${body}${sealed ? ' [sealed]' : ' [not sealed]'}`);
  }
}

async function tell({ net, codes, state, numbers }: Options): Promise<void> {
  const alice = new Person('Alice', net, join(state, 'alice.json'));
  let bob = new Person('Bob', net, join(state, 'bob.json'));

  say('1. Alice and Bob register');
  await alice.register(numbers.alice, () => codeFor(numbers.alice, codes));
  await bob.register(numbers.bob, () => codeFor(numbers.bob, codes));

  say("2. Alice scans the code on the screen of Bob's phone, and writes first");
  const [aliceCard, bobCard] = [alice.messenger.card, bob.messenger.card];
  await alice.messenger.addContact(bobCard);
  await alice.send(bobCard, 'Hello Bob, under the rose.');
  await bob.read();
  await bob.send(aliceCard, 'Hello Alice. The envelope does not say who I am.');
  await alice.read();
  const same = alice.messenger.safetyNumber(bobCard.aci) === bob.messenger.safetyNumber(aliceCard.aci);
  say(`  Both compare safety numbers: ${same ? 'the same' : 'DIFFERENT'}`);

  say('3. Bob closes the app, Alice goes on writing, Bob opens the app again');
  await bob.goOffline();
  await alice.send(bobCard, 'Are you there?');
  await alice.send(bobCard, 'I will wait.');
  bob = new Person('Bob', net, join(state, 'bob.json'));
  await bob.goOnline();
  await bob.read();
  await bob.read();

  say("4. Alice is mistaken about Bob's devices, as after he has linked one and unlinked another");
  await alice.store.transaction(() => {
    const { sessions } = alice.store.state;
    sessions[`${bobCard.aci}.2`] = sessions[`${bobCard.aci}.1`]!;
    delete sessions[`${bobCard.aci}.1`];
  });
  await alice.send(bobCard, 'This one finds its way.');
  await bob.read();

  say('5. Bob gets a new phone; only his profile key comes along');
  const newPhone = new Person('Bob', net, join(state, 'bob-new-phone.json'));
  await newPhone.register(numbers.bob, () => codeFor(numbers.bob, codes), bobCard.profileKey);
  await alice.send(bobCard, 'Is this still you?');
  await newPhone.read();
  await newPhone.send(aliceCard, 'Yes, on a new phone. Compare our safety number.');
  await alice.read();

  await Promise.all([alice.goOffline(), bob.goOffline(), newPhone.goOffline()]);
  say('Done: every message arrived once and in order.');
}

/** The last code that the relay sent to `number`: from its file, or from the person at the keyboard. */
async function codeFor(number: string, codes: string | undefined): Promise<string> {
  if (codes === undefined) {
    const terminal = createInterface({ input: process.stdin, output: process.stdout });
    try {
      return (await terminal.question(`  The code that was sent to ${number}: `)).trim();
    } finally {
      terminal.close();
    }
  }
  const sent = readFileSync(codes, 'utf8').trim().split('\n');
  const entries = sent.map((line) => JSON.parse(line) as { number: string; code: string });
  const last = entries.findLast((entry) => entry.number === number);
  if (!last) throw new Error('the relay has written no code for this number');
  return last.code;
}

function say(line: string): void {
  console.log(line);
}

function explain(error: unknown): string {
  if (LibSignalErrorBase.is(error, ErrorCode.RateLimitedError)) {
    return `the relay asks to wait ${error.retryAfterSecs} seconds`;
  }
  if (error instanceof LibSignalErrorBase) return `${ErrorCode[error.code]}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}

function parse() {
  const option = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      relay: option, ca: option, codes: option, state: option, alice: option, bob: option,
      help: { type: 'boolean', short: 'h' },
    },
  });
  return values;
}

async function main(): Promise<number> {
  const { help, relay, ca, codes, state, ...named } = parse();
  if (help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (!relay || !ca) throw new Error('--relay and --ca are needed; --help explains');
  const numbers = { alice: named.alice ?? madeUpNumber(1), bob: named.bob ?? madeUpNumber(2) };
  const folder = state ?? mkdtempSync(join(tmpdir(), 'subrosa-example-'));
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  try {
    await tell({ net: netFor(relay, readFileSync(ca, 'utf8')), codes, state: folder, numbers });
  } finally {
    if (!state) rmSync(folder, { recursive: true });
  }
  return 0;
}

function madeUpNumber(last: number): string {
  return `+4915550${randomInt(10_000, 100_000)}${last}`;
}

// Libsignal's threads do not keep Node alive: without a timer, it would end in the middle of the first `await`.
const patience = process.argv.some((argument) => argument.startsWith('--codes')) ? PATIENCE : 60 * PATIENCE;
setTimeout(() => {
  console.error('story: the relay did not answer in time');
  process.exit(1);
}, patience);

// To end on purpose is needed too: Node aborts if it ends by itself while libsignal still has a connection.
process.exit(
  await main().catch((error: unknown) => {
    console.error(`story: ${explain(error)}`);
    return 1;
  }),
);
