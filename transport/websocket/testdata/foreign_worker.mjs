// A worker that was written from the page of the first protocol alone, with
// nothing but what Node has: it registers, heartbeats, runs what it is assigned
// and signs receipts. It prints a line for each frame that it gets, and ends
// after as many jobs as it is told.
//
//	node foreign_worker.mjs ws://127.0.0.1:8080/v1/workers/ws JOBS [how to spoil]
import http from "node:http";
import crypto from "node:crypto";

const [url, jobs, spoil] = process.argv.slice(2);
const { publicKey, privateKey } = crypto.generateKeyPairSync("ed25519");
const pubkey = Buffer.from(publicKey.export({ format: "jwk" }).x, "base64url").toString("hex");

// RFC 6455 by hand: a client's messages are masked, and short or middling.
function frame(opcode, data) {
  const mask = crypto.randomBytes(4);
  const head = data.length < 126 ? Buffer.from([0x80 | opcode, 0x80 | data.length])
    : data.length < 65536 ? Buffer.from([0x80 | opcode, 0xfe, data.length >> 8, data.length & 255]) : null;
  if (!head) throw new Error("too long for this worker");
  return Buffer.concat([head, mask, Buffer.from(data.map((b, i) => b ^ mask[i & 3]))]);
}

const upgrade = http.get(url.replace("ws:", "http:"), {
  headers: { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": crypto.randomBytes(16).toString("base64") },
});
upgrade.on("response", (r) => { console.error("refused:", r.statusCode); r.on("data", (d) => console.error(String(d))); process.exitCode = 1; });
upgrade.on("upgrade", (_, socket, head) => {
  const send = (v) => socket.write(frame(1, Buffer.from(typeof v === "string" ? v : JSON.stringify(v))));
  let done = 0, ran = 0;
  const got = (m) => {
    console.log(JSON.stringify(m));
    if (m.type === "job_assign") run(m);
    if (m.job_id && (m.type === "ack" || m.type === "error") && ++done === Number(jobs)) socket.end(frame(8, Buffer.from([3, 232])));
  };
  const run = (job) => {
    const text = job.payload.text ?? job.payload;
    // Outputs of three kinds: a string, an object, and one with odd spaces.
    const output = [JSON.stringify(`${text}! \u00e9 \u2028 "quoted"`), JSON.stringify({ said: text }), `{ "said" :  "${text}" , "n":1.50 }`][ran++ % 3];
    const value = JSON.parse(output);
    const bytes = typeof value === "string" ? value : output;
    const receipt = {
      job_id: job.job_id, provider_pubkey: pubkey,
      output_hash: crypto.createHash("sha256").update(spoil === "hash" ? bytes + "x" : bytes).digest("hex"),
      timestamp: new Date().toISOString(),
    };
    const receipt_json = JSON.stringify(receipt, null, 1);
    const signature = crypto.sign(null, Buffer.from(spoil === "signature" ? receipt_json + " " : receipt_json), privateKey).toString("base64");
    send(`{"type":"job_complete","job_id":"${job.job_id}","output": ${output} ,"receipt":${JSON.stringify({ receipt_json, signature })}}`);
  };
  let buf = head;
  const take = () => {
    while (buf.length >= 2) {
      let n = buf[1] & 127, at = 2;
      if (n === 126) { if (buf.length < 4) return; n = buf.readUInt16BE(2); at = 4; }
      else if (n === 127) { if (buf.length < 10) return; n = Number(buf.readBigUInt64BE(2)); at = 10; }
      if (buf.length < at + n) return;
      const opcode = buf[0] & 15, data = buf.subarray(at, at + n);
      buf = buf.subarray(at + n);
      if (opcode === 1) got(JSON.parse(data));
      else if (opcode === 9) socket.write(frame(10, data));
      else if (opcode === 8) socket.end();
    }
  };
  socket.on("data", (d) => { buf = Buffer.concat([buf, d]); take(); });
  socket.on("close", () => clearInterval(beat));
  const heartbeat = () => send({ type: "heartbeat", max_context_tier: 2 });
  const beat = setInterval(heartbeat, 10_000);
  send({ type: "register", provider_pubkey: pubkey, capabilities: ["TASK"] });
  heartbeat();
  take();
});
