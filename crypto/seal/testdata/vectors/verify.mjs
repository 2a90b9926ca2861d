// A second reader of Consign's sealed format, in another language and from
// docs/sealed-format.md alone. It runs the vectors in its own folder:
//
//	node verify.mjs
//
// It needs Node 20 and mlkem.mjs beside it, prints one line per file, and exits
// with status 1 if any vector does not come out as its "expect" says.

import {
  createCipheriv, createDecipheriv, createHash, createHmac, createPrivateKey, createPublicKey, diffieHellman, privateDecrypt,
  timingSafeEqual, verify as verifySignature, constants,
} from "node:crypto";
import { readFileSync } from "node:fs";
import * as mlkem from "./mlkem.mjs";

// ---- bytes ----

const sha256 = (...parts) => parts.reduce((h, p) => h.update(p), createHash("sha256")).digest();
const hmac = (key, ...parts) => parts.reduce((h, p) => h.update(p), createHmac("sha256", key)).digest();
const unhex = (s) => Buffer.from(s ?? "", "hex");
const ascii = (s) => Buffer.from(s, "utf8");
const u16 = (n) => Buffer.from([n >> 8, n & 255]);
const u64 = (n) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64BE(BigInt(n));
  return b;
};
const lp = (...fields) => Buffer.concat(fields.flatMap((f) => [u64(f.length), f]));

class Refused extends Error {
  constructor(why) {
    super(why);
    this.why = why;
  }
}

function need(condition, why) {
  if (!condition) throw new Refused(why);
}

// Exactly n LP fields and nothing after them.
function fields(b, n, why) {
  const out = [];
  for (; out.length < n; ) {
    need(b.length >= 8, why);
    const length = b.readBigUInt64BE();
    need(length <= BigInt(b.length - 8), why);
    out.push(b.subarray(8, 8 + Number(length)));
    b = b.subarray(8 + Number(length));
  }
  need(b.length === 0, why);
  return out;
}

function utf8(b, why) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(b);
  } catch {
    throw new Refused(why);
  }
}

// Characters: a byte that begins no well-formed sequence counts as one.
function chars(b) {
  let n = 0;
  for (let i = 0; i < b.length; n++) {
    const [length, low, high] =
      b[i] >= 0xc2 && b[i] <= 0xdf ? [2, 0x80, 0xbf]
      : b[i] === 0xe0 ? [3, 0xa0, 0xbf] : b[i] === 0xed ? [3, 0x80, 0x9f] : b[i] >= 0xe1 && b[i] <= 0xef ? [3, 0x80, 0xbf]
      : b[i] === 0xf0 ? [4, 0x90, 0xbf] : b[i] === 0xf4 ? [4, 0x80, 0x8f] : b[i] >= 0xf1 && b[i] <= 0xf3 ? [4, 0x80, 0xbf]
      : [1, 0, 0];
    let good = i + length <= b.length && (length === 1 || (b[i + 1] >= low && b[i + 1] <= high));
    for (let j = 2; good && j < length; j++) good = (b[i + j] & 0xc0) === 0x80;
    i += good ? length : 1;
  }
  return n;
}

// ---- HKDF, XChaCha20-Poly1305 ----

const extract = (salt, ikm) => hmac(salt.length ? salt : Buffer.alloc(32), ikm);

function expand(prk, info, length) {
  let t = Buffer.alloc(0), out = t;
  for (let i = 1; out.length < length; i++) out = Buffer.concat([out, (t = hmac(prk, t, info, Buffer.from([i])))]);
  return out.subarray(0, length);
}

const derive = (cek, job, what) => expand(extract(job, cek), ascii(`consign/key/${what}/v1`), 32);

function hchacha20(key, nonce) {
  const s = new Uint32Array(16);
  s.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574]);
  for (let i = 0; i < 8; i++) s[4 + i] = key.readUInt32LE(4 * i);
  for (let i = 0; i < 4; i++) s[12 + i] = nonce.readUInt32LE(4 * i);
  const rotate = (x, n) => (x << n) | (x >>> (32 - n));
  const quarter = (a, b, c, d) => {
    s[a] += s[b]; s[d] = rotate(s[d] ^ s[a], 16);
    s[c] += s[d]; s[b] = rotate(s[b] ^ s[c], 12);
    s[a] += s[b]; s[d] = rotate(s[d] ^ s[a], 8);
    s[c] += s[d]; s[b] = rotate(s[b] ^ s[c], 7);
  };
  for (let i = 0; i < 10; i++) {
    quarter(0, 4, 8, 12); quarter(1, 5, 9, 13); quarter(2, 6, 10, 14); quarter(3, 7, 11, 15);
    quarter(0, 5, 10, 15); quarter(1, 6, 11, 12); quarter(2, 7, 8, 13); quarter(3, 4, 9, 14);
  }
  const out = Buffer.alloc(32);
  [0, 1, 2, 3, 12, 13, 14, 15].forEach((from, i) => out.writeUInt32LE(s[from], 4 * i));
  return out;
}

function aeadOpen(key, nonce, aad, sealed, why) {
  need(sealed.length >= 16, why);
  const d = createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
  d.setAAD(aad, { plaintextLength: sealed.length - 16 });
  d.setAuthTag(sealed.subarray(sealed.length - 16));
  const out = d.update(sealed.subarray(0, sealed.length - 16));
  try {
    d.final();
  } catch {
    throw new Refused(why);
  }
  return out;
}

function aeadSeal(key, nonce, aad, plain) {
  const c = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
  c.setAAD(aad, { plaintextLength: plain.length });
  return Buffer.concat([c.update(plain), c.final(), c.getAuthTag()]);
}

const xparts = (key, nonce) => [hchacha20(key, nonce.subarray(0, 16)), Buffer.concat([Buffer.alloc(4), nonce.subarray(16)])];

// ---- boxes ----

const CHUNK = 65536;

function padded(n) {
  if (n < 256) return 256;
  const e = Math.floor(Math.log2(n)), s = Math.floor(Math.log2(e)) + 1, unit = 2 ** (e - s);
  return Math.ceil(n / unit) * unit;
}

function boxNonce(prefix, i, last) {
  const n = Buffer.alloc(24);
  prefix.copy(n);
  n.writeUInt32BE(i, 19);
  n[23] = last ? 1 : 0;
  return n;
}

function box(key, prefix, aad, m) {
  const p = Buffer.alloc(padded(8 + m.length));
  lp(m).copy(p);
  const out = [prefix];
  for (let i = 0; i * CHUNK < p.length; i++) {
    const last = (i + 1) * CHUNK >= p.length;
    out.push(aeadSeal(...xparts(key, boxNonce(prefix, i, last)), aad, p.subarray(i * CHUNK, (i + 1) * CHUNK)));
  }
  return Buffer.concat(out);
}

function openBox(key, aad, b) {
  need(b.length > 19 + 16, "box");
  const prefix = b.subarray(0, 19), plain = [];
  for (let i = 0, at = 19; at < b.length; i++, at += CHUNK + 16) {
    const chunk = b.subarray(at, at + CHUNK + 16), last = at + chunk.length === b.length;
    need(chunk.length > 16, "box");
    plain.push(aeadOpen(...xparts(key, boxNonce(prefix, i, last)), aad, chunk, "box"));
  }
  const p = Buffer.concat(plain);
  need(p.length >= 8, "padding");
  const length = p.readBigUInt64BE();
  need(length <= BigInt(p.length - 8), "padding");
  const end = 8 + Number(length);
  need(p.length === padded(end) && p.subarray(end).every((x) => x === 0), "padding");
  return p.subarray(8, end);
}

// ---- keys ----

const HYBRID = 0x647a, X25519 = 0x0020, RSA = 0xff01;
const NAMES = { [HYBRID]: "mlkem768-x25519", [X25519]: "x25519", [RSA]: "rsa-oaep-sha256" };
const P = 2n ** 255n - 19n;
const littleEndian = (b) => BigInt("0x" + Buffer.from(b).reverse().toString("hex"));
const SMALL = ["00", "01", "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"].map((s) => littleEndian(unhex(s))).concat(P - 1n);

function checkX25519(u) {
  const n = littleEndian(u);
  need(n < P && !SMALL.includes(n), "key");
}

function parsePublic(b) {
  need(b.length > 2, "key");
  const kem = b.readUInt16BE(), pk = b.subarray(2);
  if (kem === X25519) {
    need(pk.length === 32, "key");
    checkX25519(pk);
  } else if (kem === HYBRID) {
    need(pk.length === 1216, "key");
    checkX25519(pk.subarray(1184));
    for (let i = 0; i < 1152; i += 3) { // two coefficients of 12 bits, below q
      need((pk[i] | (pk[i + 1] & 15) << 8) < 3329 && (pk[i + 1] >> 4 | pk[i + 2] << 4) < 3329, "key");
    }
  } else if (kem === RSA) {
    let key;
    try {
      key = createPublicKey({ key: pk, format: "der", type: "spki" });
    } catch {
      throw new Refused("key");
    }
    const { modulusLength, publicExponent } = key.asymmetricKeyDetails;
    need(key.asymmetricKeyType === "rsa" && modulusLength >= 3072 && modulusLength <= 8192 && publicExponent >= 65537n &&
      publicExponent % 2n === 1n && key.export({ format: "der", type: "spki" }).equals(pk), "key");
  } else throw new Refused("key");
  return { kem, pk, id: sha256(b).subarray(0, 16), text: `${NAMES[kem]}:${pk.toString("base64")}` };
}

const x25519Public = (pk) => createPublicKey({ key: { kty: "OKP", crv: "X25519", x: pk.toString("base64url") }, format: "jwk" });
const x25519Bytes = (key) => Buffer.from(createPublicKey(key).export({ format: "jwk" }).x, "base64url");
const x25519Private = (sk) => createPrivateKey({ key: Buffer.concat([unhex("302e020100300506032b656e04220420"), sk]), format: "der", type: "pkcs8" });

// {kem, public bytes, and what opens}, from uint16_be(kem_id) || sk. Few keys are
// in many vectors, so each is computed once.
const known = new Map();

function parsePrivate(b) {
  const name = b.toString("hex");
  if (!known.has(name)) known.set(name, computePrivate(b.readUInt16BE(), b.subarray(2)));
  return known.get(name);
}

function computePrivate(kem, sk) {
  if (kem === X25519) {
    const key = x25519Private(sk), pk = x25519Bytes(key);
    return { kem, key, pk, public: Buffer.concat([u16(kem), pk]) };
  }
  if (kem === HYBRID) {
    const seeds = createHash("shake256", { outputLength: 96 }).update(sk).digest();
    const pq = mlkem.keyPair(seeds.subarray(0, 64)), key = x25519Private(seeds.subarray(64)), pk = x25519Bytes(key);
    return { kem, pq, key, pk, public: Buffer.concat([u16(kem), pq.ek, pk]) };
  }
  const key = createPrivateKey({ key: sk, format: "der", type: "pkcs8" });
  return { kem, key, public: Buffer.concat([u16(kem), createPublicKey(key).export({ format: "der", type: "spki" })]) };
}

const base32 = (b) => [...b].map((x) => x.toString(2).padStart(8, "0")).join("").match(/.{5}/g)
  .map((bits) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[parseInt(bits, 2)]).join("");
const fingerprint = (algorithm, pk) => base32(sha256(lp(ascii("consign/fingerprint/v1"), ascii(algorithm), pk)).subarray(0, 20));

// ---- HPKE: DHKEM(X25519, HKDF-SHA256) (RFC 9180) and MLKEM768-X25519
// (draft-ietf-hpke-pq, X-Wing), HKDF-SHA256 ----

const labeledExtract = (suite, salt, label, ikm) => extract(salt, Buffer.concat([ascii("HPKE-v1"), suite, ascii(label), ikm]));
const labeledExpand = (suite, prk, label, info, n) => expand(prk, Buffer.concat([u16(n), ascii("HPKE-v1"), suite, ascii(label), info]), n);
const NONE = Buffer.alloc(0);
const ENC = { [HYBRID]: mlkem.CIPHERTEXT + 32, [X25519]: 32 };

function agree(key, enc, why) {
  let dh;
  try {
    dh = diffieHellman({ privateKey: key.key, publicKey: x25519Public(enc) });
  } catch {
    throw new Refused(why);
  }
  need(!dh.equals(Buffer.alloc(32)), why);
  return dh;
}

// The secret that enc encapsulates.
function decapsulate(enc, key, why) {
  need(enc.length === ENC[key.kem], why);
  if (key.kem === HYBRID) {
    const c = enc.subarray(0, mlkem.CIPHERTEXT), ephemeral = enc.subarray(mlkem.CIPHERTEXT);
    return createHash("sha3-256").update(mlkem.decapsulate(key.pq, c)).update(agree(key, ephemeral, why))
      .update(ephemeral).update(key.pk).update("\\.//^\\").digest();
  }
  const kem = Buffer.concat([ascii("KEM"), u16(X25519)]);
  return labeledExpand(kem, labeledExtract(kem, NONE, "eae_prk", agree(key, enc, why)), "shared_secret", Buffer.concat([enc, key.pk]), 32);
}

function hpkeRecipient(enc, key, aead, info, why) {
  const shared = decapsulate(enc, key, why);
  const suite = Buffer.concat([ascii("HPKE"), u16(key.kem), u16(1), u16(aead)]);
  const context = Buffer.concat([Buffer.from([0]), labeledExtract(suite, NONE, "psk_id_hash", NONE), labeledExtract(suite, NONE, "info_hash", info)]);
  const secret = labeledExtract(suite, shared, "secret", NONE);
  const exporter = labeledExpand(suite, secret, "exp", context, 32);
  return {
    open: (ct) => aeadOpen(labeledExpand(suite, secret, "key", context, 32), labeledExpand(suite, secret, "base_nonce", context, 12), NONE, ct, why),
    exported: (label) => labeledExpand(suite, exporter, "sec", ascii(label), 32),
  };
}

// ---- headers, payloads ----

// The suite is told before the rest is looked at: another one may have other
// fields.
function headerFields(b) {
  need(b.length <= 8192, "header");
  let rest = b;
  const first = [];
  for (let i = 0; i < 2; i++) {
    need(rest.length >= 8 && rest.readBigUInt64BE() <= BigInt(rest.length - 8), "header");
    const n = Number(rest.readBigUInt64BE());
    first.push(rest.subarray(8, 8 + n));
    rest = rest.subarray(8 + n);
    if (i === 0) need(first[0].equals(ascii("consign/payload/v1")), "header");
  }
  need(first[1].equals(ascii("HKDF-SHA256+XChaCha20-Poly1305")), "suite");
  return fields(b, 15, "header");
}

function readHeader(b) {
  const f = headerFields(b);
  [[2, 32], [3, 16], [4, 32], [7, 4], [8, 8], [12, 32], [14, 32]].forEach(([i, n]) => need(f[i].length === n, "header"));
  const [kind, model, comparator] = [5, 6, 11].map((i) => {
    need(f[i].length <= 1024 && (f[i].length > 0 || i === 6), "header");
    return utf8(f[i], "header");
  });
  const [privacy, custody] = [f[9].toString("latin1"), f[10].toString("latin1")];
  need(!f[3].every((x) => x === 0), "header");
  need(["PUBLIC", "PRIVATE"].includes(privacy) && ["sealed", "escrow", "transit"].includes(custody), "header");
  const n = f[7].readUInt32BE(), bytes = f[8].readBigUInt64BE();
  need(BigInt(n) <= bytes && bytes <= 4n * BigInt(n), "header");
  let resultKey;
  try {
    resultKey = parsePublic(f[13]);
  } catch {
    throw new Refused("header");
  }
  need(resultKey.kem !== RSA, "header");
  return { queue: f[2], job: f[3], submitter: f[4], kind, model, chars: n, promptBytes: bytes, privacy, custody, comparator,
    classOptions: f[12], resultKey: f[13], commit: f[14] };
}

function ed25519Verify(key, message, signature) {
  const k = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: key.toString("base64url") }, format: "jwk" });
  return signature.length === 64 && verifySignature(null, message, k, signature);
}

function openPayload(v) {
  const raw = unhex(v.header), ciphertext = unhex(v.ciphertext), h = readHeader(raw), cek = unhex(v.cek);
  need(h.queue.equals(unhex(v.queue_id)) && h.job.equals(unhex(v.job_id)) && h.kind === v.kind && h.model === v.model &&
    h.chars === v.chars && h.custody === v.custody && h.comparator === v.comparator, "assignment");
  const signed = lp(ascii("consign/submit/v1"), sha256(raw), sha256(ciphertext));
  if (h.privacy === "PRIVATE") {
    need((v.pinned ?? []).includes(h.submitter.toString("hex")), "submitter");
    need(ed25519Verify(h.submitter, signed, unhex(v.signature)), "submission");
  }
  need(timingSafeEqual(derive(cek, h.job, "commit"), h.commit), "commit");
  const payload = openBox(derive(cek, h.job, "payload"), raw, ciphertext);
  need(BigInt(payload.length) === h.promptBytes && chars(payload) === h.chars, "payload_mismatch");
  return { h, cek, payload, signed };
}

// ---- wraps ----

const PURPOSES = { vault: ["job_id"], claim: ["job_id", "worker_id", "claim_id"], direct: ["job_id", "worker_id"] };
const wrapInfo = (v, keyID) => lp(ascii(`consign/wrap/${v.purpose}/v1`), keyID, ...PURPOSES[v.purpose].map((f) => unhex(v[f])), unhex(v.h_hash));

function unwrap(v) {
  const [label, kem, keyID, enc, ct] = fields(unhex(v.wrap), 5, "wrap");
  need(label.equals(ascii("consign/wrap/v1")) && kem.length === 2 && keyID.length === 16, "wrap");
  const info = wrapInfo(v, keyID);
  if (v.expect === "success") same("info", info, v.info);
  const keys = v.private.map((k) => parsePrivate(unhex(k)));
  const key = keys.find((k) => k.kem === kem.readUInt16BE() && sha256(k.public).subarray(0, 16).equals(keyID));
  need(key, "key_unknown");
  const cek = key.kem === RSA ? unwrapRSA(enc, key, ct, info) : hpkeRecipient(enc, key, 3, info, "unwrap").open(ct);
  need(cek.length === 32 && !cek.equals(Buffer.alloc(32)), "unwrap");
  return cek;
}

function unwrapRSA(enc, key, ct, label) {
  need(enc.length === 0, "wrap");
  try {
    return privateDecrypt({ key: key.key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256", oaepLabel: label }, ct);
  } catch {
    throw new Refused("unwrap");
  }
}

// ---- results, parts ----

const resultInfo = (v) => lp(ascii("consign/result/v1"), ...["queue_id", "job_id", "worker_id", "claim_id", "input_hash"].map((f) => unhex(v[f])));

// The key under which what follows enc is sealed, which is the one that a
// vector reveals.
function exportedKey(key, enc, info, label, revealed) {
  const exported = hpkeRecipient(enc, key, 0xffff, info, "box").exported(label);
  if (revealed) same(label, exported, revealed);
  return exported;
}

function openResult(v) {
  const key = parsePrivate(unhex(v.private)), sealed = unhex(v.sealed), n = ENC[key.kem], info = resultInfo(v);
  need(sealed.length >= n, "box");
  return openBox(exportedKey(key, sealed.subarray(0, n), info, "consign/result-key/v1", v.result_key), info, sealed.subarray(n));
}

function partOpener(v) {
  const private_ = parsePrivate(unhex(v.private)), info = resultInfo(v);
  let next = 0n, ended = false, key;
  same("info", info, v.info);
  return (part) => {
    need(part.length >= 9 && part[8] <= 1, "box");
    const mark = part.subarray(0, 9), index = part.readBigUInt64BE();
    let sealed = part.subarray(9), k = key;
    need(index >= next, "part_replayed");
    need(!ended, "part_ended");
    need(index === next, "part_gap");
    if (index === 0n) {
      const n = ENC[private_.kem];
      need(sealed.length >= n, "box");
      k = exportedKey(private_, sealed.subarray(0, n), info, "consign/part-key/v1", v.part_key);
      sealed = sealed.subarray(n);
    }
    const m = openBox(k, Buffer.concat([info, mark]), sealed);
    [key, ended, next] = [k, mark[8] === 1, next + 1n];
    return { m, last: ended };
  };
}

// ---- comparison values ----

function compare(v) {
  const key = derive(unhex(v.cek), unhex(v.job_id), "compare");
  same("sketch_key", hmac(key, lp(ascii("consign/sketch/v1"))), v.sketch_key);
  const t = unhex(v.t);
  need(sha256(lp(ascii("consign/t-commit/v1"), t, unhex(v.r))).equals(unhex(v.t_commit)), "t_commit");
  let again = hmac(key, lp(ascii("consign/compare/v1"), ascii(v.comparator), unhex(v.class_options), unhex(v.canonical)));
  if (v.sketch) again = sha256(lp(again, unhex(v.sketch)));
  need(timingSafeEqual(again, t), "result_mismatch");
}

// ---- key bundles ----

function parseKeyText(text) {
  const [name, encoded] = text.split(":", 2);
  const kem = Number(Object.keys(NAMES).find((k) => NAMES[k] === name) ?? 0);
  const key = parsePublic(Buffer.concat([u16(kem), Buffer.from(encoded ?? "", "base64")]));
  need(key.text === text, "key");
  return key;
}

function readBundle(body, worker) {
  const v = JSON.parse(utf8(body, "bundle"));
  const order = ["format", "keys", "not_after", "not_before", "seq", "worker_id"];
  need(body.length <= 65536 && JSON.stringify(Object.fromEntries(order.map((k) => [k, v[k]]))) === body.toString("utf8"), "bundle");
  need(v.format === "consign/keys/v1" && v.worker_id === worker.toString("hex"), "bundle");
  need([v.seq, v.not_before, v.not_after].every(Number.isSafeInteger) && v.seq >= 1 && v.not_before >= 0, "bundle");
  need(v.not_after > v.not_before && v.not_after - v.not_before <= 30 * 86400e6, "bundle");
  need(Array.isArray(v.keys) && v.keys.length >= 1 && v.keys.length <= 8 && new Set(v.keys).size === v.keys.length, "bundle");
  v.keys.forEach(parseKeyText);
  return v;
}

function verifyBundle(v) {
  let b;
  try {
    const worker = Buffer.from(v.worker.replace(/^ed25519:/, ""), "base64"), e = v.envelope, body = Buffer.from(e.payload, "base64");
    need(e.payloadType === "application/vnd.consign.keys+json" && e.signatures.length === 1, "bundle");
    const pae = Buffer.concat([ascii(`DSSEv1 ${e.payloadType.length} ${e.payloadType} ${body.length} `), body]);
    need(ed25519Verify(worker, pae, Buffer.from(e.signatures[0].sig, "base64")), "bundle");
    b = readBundle(body, worker);
    if (v.body) need(body.toString("utf8") === v.body, "body");
  } catch {
    throw new Refused("bundle");
  }
  need(v.now >= b.not_before && v.now < b.not_after, "bundle_time");
  need(b.seq >= v.highest, "bundle_replayed");
}

// ---- the vectors ----

let failed = 0;

function same(what, got, want) {
  if (got.toString("hex") !== (want ?? "")) throw new Error(`${what} is ${got.toString("hex")}, want ${want}`);
}

function run(file, check) {
  const vectors = JSON.parse(readFileSync(new URL(file, import.meta.url), "utf8"));
  let bad = 0;
  for (const v of vectors) {
    let got = "success";
    try {
      check(v);
    } catch (err) {
      got = err instanceof Refused ? err.why : `${err.stack}`;
    }
    if (got !== v.expect) {
      console.log(`${file}: ${v.name}: ${got}, want ${v.expect}`);
      bad++;
    }
  }
  console.log(`${file}: ${vectors.length - bad} of ${vectors.length}`);
  failed += bad;
}

run("key.json", (v) => {
  const key = parsePublic(unhex(v.public));
  same("key_id", key.id, v.key_id);
  if (key.text !== v.text || fingerprint(NAMES[key.kem], key.pk) !== v.fingerprint) throw new Error("text or fingerprint");
  parseKeyText(v.text);
  const private_ = parsePrivate(unhex(v.private));
  same("public", private_.public, v.public);
});
run("fingerprint.json", (v) => {
  if (fingerprint(v.algorithm, unhex(v.public)) !== v.fingerprint) throw new Error("fingerprint");
});
run("header.json", (v) => {
  const b = unhex(v.header), h = readHeader(b);
  same("sha256", sha256(b), v.sha256);
  const c = Buffer.alloc(4);
  c.writeUInt32BE(v.chars);
  same("header", lp(ascii("consign/payload/v1"), ascii("HKDF-SHA256+XChaCha20-Poly1305"), unhex(v.queue_id), unhex(v.job_id), unhex(v.submitter),
    ascii(v.kind), ascii(v.model ?? ""), c, u64(v.prompt_bytes), ascii(v.privacy), ascii(v.custody), ascii(v.comparator),
    unhex(v.class_options), unhex(v.result_pk), unhex(v.commit)), v.header);
  same("commit", h.commit, v.commit);
});
run("box.json", (v) => {
  const key = unhex(v.key), aad = unhex(v.aad), prefix = unhex(v.prefix);
  if (v.expect !== "success" && !v.chunks) return openBox(key, aad, unhex(v.box));
  const m = Buffer.concat(Array(v.times ?? 0).fill(unhex(v.piece))), b = box(key, prefix, aad, m);
  if (v.chunks) {
    const at = (i) => 19 + i * (CHUNK + 16);
    return openBox(key, aad, Buffer.concat([prefix, ...v.chunks.map((i) => b.subarray(at(i), at(i + 1)))]));
  }
  if (b.length !== v.box_length) throw new Error(`${b.length} bytes`);
  if (v.box) same("box", b, v.box);
  same("box_sha256", sha256(b), v.box_sha256);
  same("message", openBox(key, aad, b), m.toString("hex"));
});
run("payload.json", (v) => {
  const { h, cek, payload, signed } = openPayload(v);
  same("payload", payload, v.payload);
  for (const what of ["payload", "commit", "compare"]) same(what, derive(cek, h.job, what), v[`k_${what}`]);
  if (v.signed_bytes) same("signed_bytes", signed, v.signed_bytes);
});
run("wrap.json", (v) => same("cek", unwrap(v), v.cek));
run("result.json", (v) => {
  same("result", openResult(v), v.result);
  same("info", resultInfo(v), v.info);
});
run("part.json", (v) => {
  const open = partOpener(v);
  for (const p of v.parts) {
    let got = "success";
    try {
      const { m, last } = open(unhex(p.part));
      same("message", m, p.message);
      if (last !== (p.last ?? false)) throw new Error("last");
    } catch (err) {
      if (!(err instanceof Refused)) throw err;
      got = err.why;
    }
    if (got !== p.expect) throw new Error(`a part is ${got}, want ${p.expect}`);
  }
});
run("compare.json", compare);
run("bundle.json", verifyBundle);
process.exitCode = failed === 0 ? 0 : 1;
