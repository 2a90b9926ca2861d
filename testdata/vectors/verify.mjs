// A second reader of Consign's receipts and draws, in another language and from
// docs/receipt-format.md and docs/validation.md alone. It runs the vectors in its
// own folder:
//
//	node verify.mjs
//
// It needs Node 20 and nothing else, prints one line per file, and exits with
// status 1 if any vector does not come out as its "expect" says.

import { createHash, createHmac, createPublicKey, verify as verifySignature, constants } from "node:crypto";
import { readFileSync } from "node:fs";

// ---- bytes ----

const sha256 = (...parts) => parts.reduce((h, p) => h.update(p), createHash("sha256")).digest();
const unhex = (s) => Buffer.from(s, "hex");
const lp = (...fields) => Buffer.concat(fields.flatMap((f) => {
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(f.length));
  return [length, f];
}));

class Refused extends Error {
  constructor(field, why) {
    super(`${field} ${why}`);
    this.field = field;
  }
}

function need(condition, field, why) {
  if (!condition) throw new Refused(field, why);
}

// ---- keys ----

const P = 2n ** 255n - 19n;
const ORDER8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n;
const SMALL = [0n, 1n, P - 1n, ORDER8, P - ORDER8];

// {id, bytes, verify}, from "algorithm:base64".
function parseKey(text) {
  const colon = text.indexOf(":");
  const algorithm = text.slice(0, colon);
  const bytes = base64(text.slice(colon + 1));
  if (algorithm === "ed25519") {
    const y = BigInt("0x" + Buffer.from(bytes).reverse().toString("hex")) & (2n ** 255n - 1n);
    if (bytes.length !== 32 || y >= P || SMALL.includes(y)) throw new Error("bad ed25519 key");
    const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: bytes.toString("base64url") }, format: "jwk" });
    return { id: bytes, bytes, verify: (m, s) => s.length === 64 && verifySignature(null, m, key, s) };
  }
  if (algorithm === "rsa-pss-sha256") {
    const key = createPublicKey({ key: bytes, format: "der", type: "spki" });
    const { modulusLength, publicExponent } = key.asymmetricKeyDetails;
    if (key.asymmetricKeyType !== "rsa" || modulusLength < 3072 || modulusLength > 8192 || publicExponent < 65537n ||
      publicExponent % 2n === 0n || !key.export({ format: "der", type: "spki" }).equals(bytes)) throw new Error("bad RSA key");
    const padding = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
    return { id: sha256(bytes), bytes, verify: (m, s) => verifySignature("sha256", m, padding, s) };
  }
  throw new Error(`unknown algorithm ${algorithm}`);
}

function base64(text) {
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) throw new Error("not standard base64");
  return bytes;
}

// ---- DSSE ----

function pae(type, payload) {
  const t = Buffer.from(type, "utf8");
  return Buffer.concat([Buffer.from(`DSSEv1 ${t.length} `), t, Buffer.from(` ${payload.length} `), payload]);
}

// JSON.parse keeps the last of two equal keys. This finds the first of them: it
// walks the text once and counts each object's keys.
function refuseDuplicates(text) {
  const open = [];
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "{") open.push(new Set());
    else if (text[i] === "[") open.push(null);
    else if (text[i] === "}" || text[i] === "]") open.pop();
    else if (text[i] === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
      if (!/^\s*:/.test(text.slice(i + 1, i + 64))) continue;
      const key = JSON.parse(text.slice(start, i + 1));
      if (open.at(-1).has(key)) throw new Error(`duplicate key ${key}`);
      open.at(-1).add(key);
    }
  }
}

function object(value, required, optional = []) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("not an object");
  for (const key of required) if (!Object.hasOwn(value, key)) throw new Error(`no ${key}`);
  for (const key of Object.keys(value)) if (![...required, ...optional].includes(key)) throw new Error(`unknown key ${key}`);
  return value;
}

function string(value) {
  if (typeof value !== "string") throw new Error("not a string");
  return value;
}

function parseEnvelope(text) {
  try {
    const value = object(JSON.parse(text), ["payload", "payloadType", "signatures"]);
    refuseDuplicates(text);
    if (!Array.isArray(value.signatures) || value.signatures.length < 1 || value.signatures.length > 16) throw new Error("signatures");
    return {
      type: string(value.payloadType),
      payload: base64(string(value.payload)),
      signatures: value.signatures.map((s) => {
        object(s, ["sig"], ["keyid"]);
        if (Object.hasOwn(s, "keyid")) string(s.keyid);
        const sig = base64(string(s.sig));
        if (sig.length === 0) throw new Error("empty signature");
        return sig;
      }),
    };
  } catch (err) {
    throw new Refused("envelope", err.message);
  }
}

// The payload of an envelope of this type with one signature, the key's.
function open(name, envelope, type, key) {
  need(envelope.type === type, `${name}.payloadType`, "is another");
  need(envelope.signatures.length === 1, `${name}.signatures`, "are not one");
  need(key.verify(pae(type, envelope.payload), envelope.signatures[0]), `${name}.signatures`, "does not verify");
  return envelope.payload;
}

const nameOf = (envelope) => sha256(pae(envelope.type, envelope.payload));

// ---- canonical JSON ----

function canonical(value) {
  if (typeof value === "boolean" || Number.isSafeInteger(value)) return JSON.stringify(value);
  if (typeof value === "string" && value.isWellFormed()) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const keys = Object.keys(value).sort(); // by UTF-16 code units
    return `{${keys.map((k) => `${canonical(k)}:${canonical(value[k])}`).join(",")}}`;
  }
  throw new Error("a value that does not occur in a body");
}

const text = (v) => typeof v === "string" && v !== "" && Buffer.byteLength(v) <= 1024;
const hex = (n) => (v) => typeof v === "string" && v.length === 2 * n && /^[0-9a-f]*$/.test(v);
const integer = (min) => (v) => Number.isSafeInteger(v) && v >= min;
const exactly = (want) => (v) => v === want;
const optional = (check) => Object.assign((v) => check(v), { optional: true });
const uuid = (v) => typeof v === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(v);
const members = (schema) => (v) => {
  object(v, Object.keys(schema).filter((k) => !schema[k].optional), Object.keys(schema).filter((k) => schema[k].optional));
  for (const [key, value] of Object.entries(v)) if (!schema[key](value)) throw new Error(`bad ${key}`);
  return true;
};
const notEmpty = (check) => (v) => check(v) && Object.keys(v).length > 0;

const RECORD = members({
  claim_id: hex(16), class: optional(text), comparator: text, engine: optional(text), epoch: integer(0),
  exit_status: integer(-(2 ** 53 - 1)), finished_at: integer(0), format: exactly("consign/record/v1"),
  h_hash: hex(32), input_hash: hex(32), job_id: uuid, kind: text,
  log: optional(members({ root: hex(32), size: integer(1) })),
  model: optional(text), model_digest: optional(text), model_requested: optional(text),
  poe: hex(32), queue_id: hex(32),
  resource_use: optional(notEmpty(members({
    cpu_us: optional(integer(1)), gpu_us: optional(integer(1)), memory_bytes: optional(integer(1)),
    output_tokens: optional(integer(1)), prompt_tokens: optional(integer(1)), video_memory_bytes: optional(integer(1)),
  }))),
  result_hash: hex(32), seq: integer(1), started_at: integer(0), t_commit: hex(32), worker_id: hex(32),
});

const ACCEPTANCE = members({
  accepted_at: integer(0),
  checks: (v) => Array.isArray(v) && v.every((s, i) => text(s) && (i === 0 || Buffer.compare(Buffer.from(v[i - 1]), Buffer.from(s)) < 0)),
  class: optional(text), custody: (v) => ["sealed", "escrow", "transit", "plain"].includes(v),
  drawn: (v) => typeof v === "boolean", evidence: integer(0), format: exactly("consign/acceptance/v1"),
  n: integer(0), p: hex(8), record: hex(32),
});

function readBody(name, payload, schema) {
  try {
    if (payload.length > 65536) throw new Error("too long");
    const body = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(payload);
    const value = JSON.parse(body);
    schema(value);
    if (canonical(value) !== body) throw new Error("not in canonical form");
    return value;
  } catch (err) {
    throw new Refused(name, err.message);
  }
}

// ---- records, acceptances, receipts ----

function poeV2(job, claim, worker, model, inputHash, resultHash, tCommit) {
  return lp(Buffer.from("consign/poe/v2"), job, claim, worker, Buffer.from(model), inputHash, resultHash, tCommit);
}

const jobBytes = (id) => unhex(id.replaceAll("-", ""));

function verifyRecord(envelope, key) {
  const r = readBody("record", open("record", envelope, "application/vnd.consign.record+json", key), RECORD);
  need(unhex(r.worker_id).equals(key.id), "record.worker_id", "is not the key's");
  need(r.finished_at >= r.started_at, "record.finished_at", "is before started_at");
  need(r.comparator !== "none" || /^0+$/.test(r.t_commit), "record.t_commit", "is not zero");
  const preimage = poeV2(jobBytes(r.job_id), unhex(r.claim_id), unhex(r.worker_id), r.model ?? "",
    unhex(r.input_hash), unhex(r.result_hash), unhex(r.t_commit));
  need(unhex(r.poe).equals(sha256(preimage)), "record.poe", "is not the record's");
  return r;
}

function verifyAcceptance(envelope, key) {
  return readBody("acceptance", open("acceptance", envelope, "application/vnd.consign.acceptance+json", key), ACCEPTANCE);
}

function verifyReceipt(v) {
  const worker = parseKey(v.worker), queue = parseKey(v.queue);
  const header = unhex(v.header), payload = unhex(v.payload), result = unhex(v.result);
  const envelopes = object(v.receipt, ["acceptance", "record"]);
  const record = parseEnvelope(JSON.stringify(envelopes.record));
  const acceptance = parseEnvelope(JSON.stringify(envelopes.acceptance));
  const r = verifyRecord(record, worker);
  need(unhex(r.queue_id).equals(sha256(queue.bytes)), "record.queue_id", "is another");
  need(r.job_id === v.job_id, "record.job_id", "is another");
  need(unhex(r.h_hash).equals(sha256(header)), "record.h_hash", "is another");
  need(unhex(r.input_hash).equals(sha256(header, payload)), "record.input_hash", "is another");
  need(unhex(r.result_hash).equals(sha256(result)), "record.result_hash", "is another");
  const a = verifyAcceptance(acceptance, queue);
  need(unhex(a.record).equals(nameOf(record)), "acceptance.record", "is another");
}

// ---- the vectors ----

let failed = 0;

function run(file, vectors, check) {
  let bad = 0;
  vectors.forEach((v, i) => {
    let got = "success";
    try {
      check(v);
    } catch (err) {
      got = err instanceof Refused ? err.field : `${err.stack}`;
    }
    if (got !== (v.expect ?? "success")) {
      console.log(`${file}: ${v.name ?? i}: ${got}, want ${v.expect ?? "success"}`);
      bad++;
    }
  });
  console.log(`${file}: ${vectors.length - bad} of ${vectors.length}`);
  failed += bad;
}

const read = (file) => JSON.parse(readFileSync(new URL(file, import.meta.url), "utf8"));
const same = (what, got, want) => need(got.toString("hex") === want, what, `is ${got.toString("hex")}`);

function checkBody(verify) {
  return (v) => {
    const envelope = parseEnvelope(JSON.stringify(v.envelope));
    verify(envelope, parseKey(v.key));
    need(envelope.payload.toString("utf8") === v.body, "body", "differs");
    same("sha256", nameOf(envelope), v.sha256);
  };
}

run("pae.json", read("pae.json"), (v) => {
  const bytes = pae(v.payload_type, unhex(v.payload));
  same("pae", bytes, v.pae);
  same("sha256", sha256(bytes), v.sha256);
});
const poe = read("poe.json");
run("poe.json v1", poe.v1, (v) => same("poe", sha256(unhex(v.task_id), unhex(v.result), unhex(v.node_id)), v.poe));
run("poe.json v2", poe.v2, (v) => {
  const preimage = poeV2(unhex(v.job_id), unhex(v.claim_id), unhex(v.worker_id), v.model,
    sha256(unhex(v.input)), sha256(unhex(v.result)), unhex(v.t_commit));
  same("preimage", preimage, v.preimage);
  same("poe", sha256(preimage), v.poe);
});
run("envelope.json", read("envelope.json"), (v) => parseEnvelope(v.text));
run("record.json", read("record.json"), checkBody(verifyRecord));
run("acceptance.json", read("acceptance.json"), checkBody(verifyAcceptance));
run("receipt.json", read("receipt.json"), verifyReceipt);
run("receipt-rsa.json", read("receipt-rsa.json"), verifyReceipt);
const draw = read("draw.json");
const u64 = (text) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64BE(BigInt(text));
  return b;
};
const number = (what, got, want) => need(got === BigInt(want), what, `is ${got}`);
run("draw.json epochs", draw.epoch_commitments, (v) =>
  same("commitment", sha256(lp(Buffer.from("consign/epoch/v1"), unhex(v.queue_id), u64(v.epoch), unhex(v.secret))), v.commitment));
run("draw.json draws", draw.draws, (v) => {
  const lot = createHmac("sha256", unhex(v.secret)).update(lp(Buffer.from("consign/draw/v1"), unhex(v.job_id), unhex(v.worker_id), unhex(v.poe))).digest();
  number("u", lot.readBigUInt64BE(), v.u);
});
const CERTAIN = 2n ** 64n - 1n;
run("draw.json probabilities", draw.probabilities, (v) => {
  const rate = CERTAIN * BigInt(v.rate_per_million) / 1_000_000n, n = BigInt(v.n);
  const adaptive = n < 10n ? CERTAIN : CERTAIN / n > rate ? CERTAIN / n : rate;
  number("p", v.fixed ? rate : adaptive, v.p_of_2_64);
});
process.exitCode = failed === 0 ? 0 : 1;
