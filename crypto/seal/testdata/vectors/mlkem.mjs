// ML-KEM-768 (FIPS 203), as much of it as a recipient needs, for Node has none
// before version 24. It reads public test vectors: nothing here runs in
// constant time.

import { createHash } from "node:crypto";

const Q = 3329, N = 256, K = 3, ETA = 2, DU = 10, DV = 4;

const shake = (name, n, ...parts) => parts.reduce((h, p) => h.update(p), createHash(name, { outputLength: n })).digest();
const sha3 = (bits, ...parts) => parts.reduce((h, p) => h.update(p), createHash(`sha3-${bits}`)).digest();
const times = (n, f) => Array.from({ length: n }, (_, i) => f(i));
const mod = (x) => ((x % Q) + Q) % Q;

// ---- the ring and its transform (sections 4.3, 4.3.1) ----

const power = (x, n) => {
  let y = 1;
  for (; n > 0; n--) y = (y * x) % Q;
  return y;
};
const reversed = (i) => parseInt(i.toString(2).padStart(7, "0").split("").reverse().join(""), 2);
const ZETAS = times(128, (i) => power(17, reversed(i)));
const GAMMAS = times(128, (i) => power(17, 2 * reversed(i) + 1));

function ntt(f) {
  f = f.slice();
  for (let length = 128, i = 1; length >= 2; length /= 2)
    for (let start = 0; start < N; start += 2 * length, i++)
      for (let j = start; j < start + length; j++) {
        const t = ZETAS[i] * f[j + length] % Q;
        f[j + length] = mod(f[j] - t);
        f[j] = mod(f[j] + t);
      }
  return f;
}

function inverseNTT(f) {
  f = f.slice();
  for (let length = 2, i = 127; length <= 128; length *= 2)
    for (let start = 0; start < N; start += 2 * length, i--)
      for (let j = start; j < start + length; j++) {
        const t = f[j];
        f[j] = mod(t + f[j + length]);
        f[j + length] = ZETAS[i] * mod(f[j + length] - t) % Q;
      }
  return f.map((x) => x * 3303 % Q); // 128^-1
}

const add = (f, g) => f.map((x, i) => mod(x + g[i]));
const subtract = (f, g) => f.map((x, i) => mod(x - g[i]));

function multiply(f, g) {
  const h = new Array(N);
  for (let i = 0; i < 128; i++) {
    const [a, b, c, d] = [f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]];
    h[2 * i] = (a * c + (b * d % Q) * GAMMAS[i]) % Q;
    h[2 * i + 1] = (a * d + b * c) % Q;
  }
  return h;
}

const dot = (fs, gs) => fs.map((f, i) => multiply(f, gs[i])).reduce(add);

// ---- sampling (section 4.2.2) ----

// 1,344 bytes are 896 candidates for 256 places, of which four in five fit.
function sampleNTT(rho, j, i) {
  const b = shake("shake128", 1344, rho, Buffer.from([j, i])), f = [];
  for (let at = 0; f.length < N; at += 3)
    for (const x of [b[at] + 256 * (b[at + 1] % 16), (b[at + 1] >> 4) + 16 * b[at + 2]])
      if (x < Q && f.length < N) f.push(x);
  return f;
}

const bitsOf = (b) => [...b].flatMap((x) => times(8, (i) => (x >> i) & 1));

function sampleCBD(seed, nonce) {
  const bits = bitsOf(shake("shake256", 64 * ETA, seed, Buffer.from([nonce])));
  return times(N, (i) => mod(bits[4 * i] + bits[4 * i + 1] - bits[4 * i + 2] - bits[4 * i + 3]));
}

const matrix = (rho) => times(K, (i) => times(K, (j) => sampleNTT(rho, j, i)));
const transpose = (m) => times(K, (i) => times(K, (j) => m[j][i]));

// ---- bytes (section 4.2.1) ----

function encode(f, d) {
  const bits = f.flatMap((x) => times(d, (i) => (x >> i) & 1));
  return Buffer.from(times(bits.length / 8, (i) => times(8, (j) => bits[8 * i + j] << j).reduce((a, b) => a | b)));
}

function decode(b, d) {
  const bits = bitsOf(b);
  return times(N, (i) => times(d, (j) => bits[d * i + j] << j).reduce((a, c) => a | c));
}

const decodeAll = (b, d) => times(b.length / (32 * d), (i) => decode(b.subarray(32 * d * i, 32 * d * (i + 1)), d));
const compress = (f, d) => f.map((x) => Math.floor((x * 2 ** (d + 1) + Q) / (2 * Q)) % 2 ** d);
const decompress = (f, d) => f.map((y) => Math.floor((2 * y * Q + 2 ** d) / 2 ** (d + 1)));

// ---- K-PKE (section 5) ----

function generate(d) {
  const g = sha3(512, d, Buffer.from([K])), rho = g.subarray(0, 32), sigma = g.subarray(32);
  const s = times(K, (i) => ntt(sampleCBD(sigma, i))), e = times(K, (i) => ntt(sampleCBD(sigma, K + i)));
  const a = matrix(rho), t = a.map((row, i) => add(dot(row, s), e[i]));
  return { a, t, s, ek: Buffer.concat([...t.map((f) => encode(f, 12)), rho]) };
}

function encrypt({ a, t }, m, r) {
  const y = times(K, (i) => ntt(sampleCBD(r, i))), e1 = times(K, (i) => sampleCBD(r, K + i)), e2 = sampleCBD(r, 2 * K);
  const u = transpose(a).map((row, i) => add(inverseNTT(dot(row, y)), e1[i]));
  const v = add(add(inverseNTT(dot(t, y)), e2), decompress(decode(m, 1), 1));
  return Buffer.concat([...u.map((f) => encode(compress(f, DU), DU)), encode(compress(v, DV), DV)]);
}

function decrypt(s, c) {
  const u = decodeAll(c.subarray(0, 32 * DU * K), DU).map((f) => decompress(f, DU));
  const v = decompress(decode(c.subarray(32 * DU * K), DV), DV);
  return encode(compress(subtract(v, inverseNTT(dot(s, u.map(ntt)))), 1), 1);
}

// ---- ML-KEM (sections 6 and 7) ----

export const CIPHERTEXT = 32 * (DU * K + DV);

// The key pair of a seed d || z of 64 bytes.
export function keyPair(seed) {
  return { ...generate(seed.subarray(0, 32)), z: seed.subarray(32) };
}

export function decapsulate(key, c) {
  const m = decrypt(key.s, c), g = sha3(512, m, sha3(256, key.ek));
  return encrypt(key, m, g.subarray(32)).equals(c) ? g.subarray(0, 32) : shake("shake256", 32, key.z, c);
}
