package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign/crypto/sign"
)

type payloadVector struct {
	vectorCase
	Queue       hexBytes   `json:"queue_id"`
	Job         hexBytes   `json:"job_id"`
	Kind        string     `json:"kind"`
	Model       string     `json:"model"`
	Chars       uint32     `json:"chars"`
	Custody     string     `json:"custody"`
	Comparator  string     `json:"comparator"`
	CEK         hexBytes   `json:"cek"`
	KPayload    hexBytes   `json:"k_payload,omitempty"`
	KCommit     hexBytes   `json:"k_commit,omitempty"`
	KCompare    hexBytes   `json:"k_compare,omitempty"`
	Pinned      []hexBytes `json:"pinned,omitempty"`
	Signature   hexBytes   `json:"signature,omitempty"`
	SignedBytes hexBytes   `json:"signed_bytes,omitempty"`
	Header      hexBytes   `json:"header"`
	Ciphertext  hexBytes   `json:"ciphertext"`
	Payload     hexBytes   `json:"payload,omitempty"`
}

func TestVectorsPayload(t *testing.T) {
	vectors(t, "payload.json", func() (out []payloadVector) {
		add := func(name, expect, privacy, payload string, change func(*payloadVector)) {
			h := vectorHeader()
			h.Privacy = privacy
			header, ciphertext, err := SealPayload(h, vectorCEK, []byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			v := payloadVector{vectorCase: vectorCase{name, expect}, Queue: h.Queue[:], Job: h.Job[:], Kind: h.Kind, Model: h.Model,
				Chars: uint32(Chars([]byte(payload))), Custody: h.Custody, Comparator: h.Comparator, CEK: vectorCEK.Bytes(),
				Header: header, Ciphertext: ciphertext}
			if privacy == Private {
				v.Pinned = []hexBytes{h.Submitter[:]}
				v.Signature = must(SignSubmission(testSubmitter, header, ciphertext))
				v.SignedBytes = SubmissionMessage(header, ciphertext)
			}
			change(&v)
			if expect == "success" {
				for key, info := range map[*hexBytes]string{&v.KPayload: infoPayload, &v.KCommit: infoCommit, &v.KCompare: infoCompare} {
					k := vectorCEK.derive(h.Job, info)
					*key = k[:]
				}
				v.Payload = hexBytes(payload)
			}
			out = append(out, v)
		}
		same := func(*payloadVector) {}
		add("public", "success", Public, "zwölf Bytes", same)
		add("private", "success", Private, "hello", same)
		add("empty", "success", Public, "", same)
		add("not UTF-8", "success", Public, "\xff\xe2\x82 \xf0\x9f\x98\x82 \xed\xa0\x80 \xc0\x80", same)
		add("another job", "assignment", Public, "hello", func(v *payloadVector) { v.Job = hexBytes(bytes.Repeat([]byte{9}, 16)) })
		add("another model", "assignment", Public, "hello", func(v *payloadVector) { v.Model = "phi" })
		add("other chars", "assignment", Public, "hello", func(v *payloadVector) { v.Chars = 6 })
		add("another queue", "assignment", Public, "hello", func(v *payloadVector) { v.Queue = bytes.Repeat([]byte{9}, 32) })
		add("another kind", "assignment", Public, "hello", func(v *payloadVector) { v.Kind = "TASK" })
		add("another custody", "assignment", Public, "hello", func(v *payloadVector) { v.Custody = Transit })
		add("another comparator", "assignment", Public, "hello", func(v *payloadVector) { v.Comparator = "text" })
		add("a submitter that is not pinned", "submitter", Private, "hello", func(v *payloadVector) { v.Pinned = nil })
		add("no signature", "submission", Private, "hello", func(v *payloadVector) { v.Signature = nil })
		add("a signature over another ciphertext", "submission", Private, "hello", func(v *payloadVector) {
			v.Signature = must(testSubmitter.Sign(SubmissionMessage(v.Header, nil)))
		})
		add("another's signature", "submission", Private, "hello", func(v *payloadVector) {
			v.Signature = must(testWorker.Sign(SubmissionMessage(v.Header, v.Ciphertext)))
		})
		add("another key", "commit", Public, "hello", func(v *payloadVector) { v.CEK = bytes.Repeat([]byte{1}, 32) })
		add("a ciphertext under two keys", "commit", Public, "hello", func(v *payloadVector) {
			two := CEK{fill32(2)}
			h := vectorHeader()
			v.Ciphertext = twoKeyBox(t, vectorCEK.derive(h.Job, infoPayload), two.derive(h.Job, infoPayload), v.Header, []byte("hello"))
			v.CEK = two.Bytes()
		})
		add("altered", "box", Public, "hello", func(v *payloadVector) { v.Ciphertext[30] ^= 1 })
		add("another header's ciphertext", "box", Public, "hello", func(v *payloadVector) {
			h := vectorHeader()
			h.ClassOptions = fill32(9)
			_, v.Ciphertext, _ = SealPayload(h, vectorCEK, []byte("hello"))
		})
		add("fewer characters than declared", "payload_mismatch", Public, "hello", func(v *payloadVector) {
			v.Ciphertext = Box(vectorCEK.derive([16]byte(v.Job), infoPayload), v.Header, []byte("h\u00e9l\u00f8"))
		})
		add("more bytes than declared", "payload_mismatch", Public, "hello", func(v *payloadVector) {
			v.Ciphertext = Box(vectorCEK.derive([16]byte(v.Job), infoPayload), v.Header, []byte("hell\u00f8"))
		})
		return out
	}, func(t *testing.T, v payloadVector) {
		cek := must(ParseCEK(v.CEK))
		_, payload, err := OpenPayload(v.Header, v.Ciphertext, cek, Assignment{Queue: [32]byte(v.Queue), Job: [16]byte(v.Job), Kind: v.Kind,
			Model: v.Model, Chars: v.Chars, Custody: v.Custody, Comparator: v.Comparator, Signature: v.Signature,
			Pinned: func(k [32]byte) bool {
				return slices.ContainsFunc(v.Pinned, func(p hexBytes) bool { return bytes.Equal(p, k[:]) })
			}})
		v.check(t, err)
		if err != nil {
			return
		}
		same(t, v.Name, payload, v.Payload)
		for info, want := range map[string]hexBytes{infoPayload: v.KPayload, infoCommit: v.KCommit, infoCompare: v.KCompare} {
			key := cek.derive([16]byte(v.Job), info)
			same(t, info, key[:], want)
		}
		if v.SignedBytes != nil {
			same(t, v.Name, SubmissionMessage(v.Header, v.Ciphertext), v.SignedBytes)
		}
	})
}

type wrapVector struct {
	vectorCase
	Purpose string     `json:"purpose"`
	Job     hexBytes   `json:"job_id"`
	Worker  hexBytes   `json:"worker_id,omitempty"`
	Claim   hexBytes   `json:"claim_id,omitempty"`
	Header  hexBytes   `json:"h_hash"`
	Private []hexBytes `json:"private"` // the keys at hand
	Info    hexBytes   `json:"info,omitempty"`
	Wrap    hexBytes   `json:"wrap"`
	CEK     hexBytes   `json:"cek,omitempty"`
}

func (v wrapVector) purpose() Purpose {
	job, h := [16]byte(v.Job), [32]byte(v.Header)
	switch v.Purpose {
	case "vault":
		return VaultWrap{job, h}
	case "claim":
		return ClaimWrap{job, [32]byte(v.Worker), [16]byte(v.Claim), h}
	default:
		return DirectWrap{job, [32]byte(v.Worker), h}
	}
}

func TestVectorsWrap(t *testing.T) {
	vectors(t, "wrap.json", func() (out []wrapVector) {
		keys := []*PrivateKey{vectorKey(MLKEM768X25519), vectorKey(X25519), testKeys()[RSAOAEP]}
		fives := bytes.Repeat([]byte{5}, 32)
		make := func(key *PrivateKey, name, expect, purpose string, change func(*wrapVector)) {
			v := wrapVector{vectorCase: vectorCase{key.Public().KEM().String() + ": " + name, expect}, Purpose: purpose,
				Job: bytes.Repeat([]byte{1}, 16), Header: bytes.Repeat([]byte{2}, 32), Private: []hexBytes{key.Bytes()}}
			if purpose != "vault" {
				v.Worker = bytes.Repeat([]byte{3}, 32)
			}
			if purpose == "claim" {
				v.Claim = bytes.Repeat([]byte{4}, 16)
			}
			v.Wrap = must(Wrap(key.Public(), v.purpose(), vectorCEK))
			if expect == "success" {
				v.Info, v.CEK = v.purpose().info(key.Public().ID()), vectorCEK.Bytes()
			}
			change(&v)
			out = append(out, v)
		}
		for _, key := range keys {
			for _, purpose := range []string{"vault", "claim", "direct"} {
				make(key, purpose, "success", purpose, func(*wrapVector) {})
			}
			make(key, "vault as direct", "unwrap", "vault", func(v *wrapVector) { v.Purpose, v.Worker = "direct", bytes.Repeat([]byte{3}, 32) })
			make(key, "another claim", "unwrap", "claim", func(v *wrapVector) { v.Claim = bytes.Repeat([]byte{9}, 16) })
			make(key, "altered", "unwrap", "claim", func(v *wrapVector) { v.Wrap[len(v.Wrap)-1] ^= 1 })
			make(key, "a byte after", "wrap", "claim", func(v *wrapVector) { v.Wrap = append(v.Wrap, 0) })
			make(key, "cut", "wrap", "claim", func(v *wrapVector) { v.Wrap = v.Wrap[:len(v.Wrap)-1] })
			make(key, "no key at hand", "key_unknown", "claim", func(v *wrapVector) { v.Private = []hexBytes{} })
			make(key, "another job", "unwrap", "claim", func(v *wrapVector) { v.Job = bytes.Repeat([]byte{9}, 16) })
			make(key, "another worker", "unwrap", "claim", func(v *wrapVector) { v.Worker = bytes.Repeat([]byte{9}, 32) })
			make(key, "another header", "unwrap", "claim", func(v *wrapVector) { v.Header = bytes.Repeat([]byte{9}, 32) })
			make(key, "claim as vault", "unwrap", "claim", func(v *wrapVector) { v.Purpose = "vault" })
			make(key, "a content key of zeros", "unwrap", "vault", func(v *wrapVector) { v.Wrap = sealRaw(t, key.Public(), v.purpose(), zeros[:32]) })
			make(key, "a content key of 31 bytes", "unwrap", "vault", func(v *wrapVector) { v.Wrap = sealRaw(t, key.Public(), v.purpose(), fives[:31]) })
		}
		make(keys[2], "an enc", "wrap", "vault", func(v *wrapVector) {
			_, ct, err := keys[2].Public().encrypt(v.purpose().info(keys[2].Public().ID()), fives)
			if err != nil {
				t.Fatal(err)
			}
			v.Wrap = encodeWrap(keys[2].Public(), []byte{1}, ct)
		})
		make(keys[1], "to another key", "key_unknown", "claim", func(v *wrapVector) { v.Private = []hexBytes{keys[0].Bytes()} })
		make(keys[1], "several keys at hand", "success", "claim", func(v *wrapVector) { v.Private = []hexBytes{keys[0].Bytes(), keys[1].Bytes()} })
		return out
	}, func(t *testing.T, v wrapVector) {
		var keys []*PrivateKey
		for _, b := range v.Private {
			keys = append(keys, must(ParsePrivateKey(b)))
		}
		cek, err := Unwrap(v.purpose(), v.Wrap, keys...)
		v.check(t, err)
		if err != nil {
			return
		}
		same(t, v.Name, cek.Bytes(), v.CEK)
		fields := fieldsOf(t, v.Wrap)
		same(t, v.Name+" info", v.purpose().info([16]byte(fields[2])), v.Info)
	})
}

type resultVector struct {
	vectorCase
	Queue     hexBytes `json:"queue_id"`
	Job       hexBytes `json:"job_id"`
	Worker    hexBytes `json:"worker_id"`
	Claim     hexBytes `json:"claim_id"`
	Input     hexBytes `json:"input_hash"`
	Private   hexBytes `json:"private"`
	Info      hexBytes `json:"info,omitempty"`
	Sealed    hexBytes `json:"sealed"`
	ResultKey hexBytes `json:"result_key,omitempty"` // exported
	Result    hexBytes `json:"result,omitempty"`
}

func (v resultVector) info() ResultInfo {
	return ResultInfo{[32]byte(v.Queue), [16]byte(v.Job), [32]byte(v.Worker), [16]byte(v.Claim), [32]byte(v.Input)}
}

func vectorResult(c vectorCase, kem KEM) resultVector {
	i := testInfo()
	return resultVector{vectorCase: c, Queue: i.Queue[:], Job: i.Job[:], Worker: i.Worker[:], Claim: i.Claim[:], Input: i.Input[:],
		Private: vectorKey(kem).Bytes()}
}

func TestVectorsResult(t *testing.T) {
	vectors(t, "result.json", func() (out []resultVector) {
		for _, kem := range hpkeKEMs {
			add := func(name, expect, result string, change func(*resultVector)) {
				v := vectorResult(vectorCase{kem.String() + ": " + name, expect}, kem)
				key := vectorKey(kem)
				v.Sealed = must(SealResult(key.Public(), v.info(), []byte(result)))
				if expect == "success" {
					resultKey := must(RevealResultKey(key, v.info(), v.Sealed))
					v.Info, v.ResultKey, v.Result = v.info().bytes(), resultKey[:], hexBytes(result)
				}
				change(&v)
				out = append(out, v)
			}
			add("a result", "success", "the result", func(*resultVector) {})
			add("empty", "success", "", func(*resultVector) {})
			add("another claim", "box", "x", func(v *resultVector) { v.Claim = bytes.Repeat([]byte{9}, 16) })
			add("another worker", "box", "x", func(v *resultVector) { v.Worker = bytes.Repeat([]byte{9}, 32) })
			add("another queue", "box", "x", func(v *resultVector) { v.Queue = bytes.Repeat([]byte{9}, 32) })
			add("another job", "box", "x", func(v *resultVector) { v.Job = bytes.Repeat([]byte{9}, 16) })
			add("another input", "box", "x", func(v *resultVector) { v.Input = bytes.Repeat([]byte{9}, 32) })
			add("altered", "box", "x", func(v *resultVector) { v.Sealed[len(v.Sealed)-1] ^= 1 })
			add("another enc", "box", "x", func(v *resultVector) { v.Sealed[5] ^= 1 })
			add("cut in enc", "box", "x", func(v *resultVector) { v.Sealed = v.Sealed[:31] })
			add("a byte after", "box", "x", func(v *resultVector) { v.Sealed = append(v.Sealed, 0) })
		}
		return out
	}, func(t *testing.T, v resultVector) {
		key := must(ParsePrivateKey(v.Private))
		result, err := OpenResult(key, v.info(), v.Sealed)
		v.check(t, err)
		if err != nil {
			return
		}
		same(t, v.Name, result, v.Result)
		same(t, v.Name, v.info().bytes(), v.Info)
		resultKey := must(RevealResultKey(key, v.info(), v.Sealed))
		same(t, v.Name, resultKey[:], v.ResultKey)
	})
}

// partVector is what an opener gets, in order, and what each comes to.
type partVector struct {
	resultVector
	PartKey hexBytes  `json:"part_key"`
	Parts   []onePart `json:"parts"`
}

type onePart struct {
	Expect  string   `json:"expect"`
	Part    hexBytes `json:"part"`
	Last    bool     `json:"last,omitempty"`
	Message hexBytes `json:"message,omitempty"`
}

func TestVectorsPart(t *testing.T) {
	vectors(t, "part.json", func() (out []partVector) {
		for _, kem := range hpkeKEMs {
			v := partVector{resultVector: vectorResult(success(kem.String()), kem)}
			v.Info = v.info().bytes()
			s := must(NewPartSealer(vectorKey(kem).Public(), v.info()))
			v.PartKey = slices.Clone(s.key[:])
			var parts [][]byte
			messages := []string{"one", "", "three"}
			for i, m := range messages {
				parts = append(parts, must(s.Seal([]byte(m), i == 2)))
			}
			lastIs1 := slices.Clone(parts[1])
			lastIs1[8] = 1
			renamed := slices.Clone(parts[2])
			renamed[7] = 1
			late := slices.Clone(parts[2])
			late[7] = 3
			good := func(i int) {
				v.Parts = append(v.Parts, onePart{"success", parts[i], i == 2, hexBytes(messages[i])})
			}
			bad := func(expect string, part []byte) { v.Parts = append(v.Parts, onePart{Expect: expect, Part: part}) }
			bad("box", nil)
			bad("part_gap", parts[1])
			good(0)
			bad("part_replayed", parts[0])
			bad("part_gap", parts[2])
			bad("box", lastIs1)
			bad("box", renamed)
			good(1)
			good(2)
			bad("part_replayed", parts[2])
			bad("part_ended", late)
			out = append(out, v)
		}
		return out
	}, func(t *testing.T, v partVector) {
		o := must(NewPartOpener(must(ParsePrivateKey(v.Private)), v.info()))
		for _, p := range v.Parts {
			m, last, err := o.Open(p.Part)
			vectorCase{v.Name, p.Expect}.check(t, err)
			if !bytes.Equal(m, p.Message) || last != p.Last {
				t.Errorf("%s: %q, %v", v.Name, m, last)
			}
		}
		same(t, v.Name, o.key[:], v.PartKey)
		same(t, v.Name, o.context, v.Info)
	})
}

type compareVector struct {
	vectorCase
	CEK          hexBytes `json:"cek"`
	Job          hexBytes `json:"job_id"`
	Comparator   string   `json:"comparator"`
	ClassOptions hexBytes `json:"class_options"`
	Canonical    hexBytes `json:"canonical"`
	Sketch       hexBytes `json:"sketch,omitempty"`
	SketchKey    hexBytes `json:"sketch_key"`
	T            hexBytes `json:"t"`
	R            hexBytes `json:"r"`
	TCommit      hexBytes `json:"t_commit"`
}

func TestVectorsCompare(t *testing.T) {
	vectors(t, "compare.json", func() (out []compareVector) {
		add := func(name, expect, canonical, sketch string, change func(*compareVector)) {
			h := vectorHeader()
			c := must(NewComparison(vectorCEK, h, []byte(canonical), []byte(sketch)))
			key, commit := must(SketchKey(vectorCEK, h)), c.Commit()
			v := compareVector{vectorCase{name, expect}, vectorCEK.Bytes(), h.Job[:], h.Comparator, h.ClassOptions[:], hexBytes(canonical),
				hexBytes(sketch), key[:], c.T[:], c.R[:], commit[:]}
			change(&v)
			out = append(out, v)
		}
		add("exact", "success", "the result", "", func(*compareVector) {})
		add("empty", "success", "", "", func(*compareVector) {})
		add("with a sketch", "success", "the result", strings.Repeat("sk", 128), func(*compareVector) {})
		add("another result", "result_mismatch", "the result", "", func(v *compareVector) { v.Canonical = hexBytes("a result") })
		add("another sketch", "result_mismatch", "the result", "sk", func(v *compareVector) { v.Sketch = hexBytes("ks") })
		add("another comparator", "result_mismatch", "the result", "", func(v *compareVector) { v.Comparator = "text" })
		add("other class options", "result_mismatch", "the result", "", func(v *compareVector) { v.ClassOptions = bytes.Repeat([]byte{9}, 32) })
		add("another r", "t_commit", "the result", "", func(v *compareVector) { v.R = bytes.Repeat([]byte{9}, 32) })
		return out
	}, func(t *testing.T, v compareVector) {
		cek := must(ParseCEK(v.CEK))
		h := vectorHeader()
		h.Job, h.Comparator, h.ClassOptions = [16]byte(v.Job), v.Comparator, [32]byte(v.ClassOptions)
		h.Commit = cek.derive(h.Job, infoCommit)
		c := Comparison{[32]byte(v.T), [32]byte(v.R), v.Sketch}
		v.check(t, c.VerifyResult([32]byte(v.TCommit), cek, h, v.Canonical, v.Sketch))
		key := must(SketchKey(cek, h))
		same(t, v.Name, key[:], v.SketchKey)
	})
}

type bundleVector struct {
	vectorCase
	Worker   sign.PublicKey `json:"worker"`
	Now      int64          `json:"now"`
	Highest  int64          `json:"highest"`
	Envelope sign.Envelope  `json:"envelope"`
	Body     string         `json:"body,omitempty"`
}

func TestVectorsBundle(t *testing.T) {
	vectors(t, "bundle.json", func() (out []bundleVector) {
		b := testBundle()
		b.Keys = []PublicKey{vectorKey(MLKEM768X25519).Public(), vectorKey(X25519).Public()}
		add := func(name, expect string, e sign.Envelope, change func(*bundleVector)) {
			v := bundleVector{vectorCase{name, expect}, testWorker.Public(), testNow.UnixMicro(), 7, e, ""}
			if expect == "success" {
				v.Body = string(e.Payload)
			}
			change(&v)
			out = append(out, v)
		}
		same := func(*bundleVector) {}
		good := must(SignBundle(testWorker, b))
		add("two keys", "success", good, same)
		add("a first bundle", "success", good, func(v *bundleVector) { v.Highest = 0 })
		add("the last microsecond", "success", good, func(v *bundleVector) { v.Now += int64(MaxBundleAge/time.Microsecond) - 1 })
		add("too early", "bundle_time", good, func(v *bundleVector) { v.Now-- })
		add("too late", "bundle_time", good, func(v *bundleVector) { v.Now += int64(MaxBundleAge / time.Microsecond) })
		add("replayed", "bundle_replayed", good, func(v *bundleVector) { v.Highest = 8 })
		add("another worker's key", "bundle", good, func(v *bundleVector) { v.Worker = testSubmitter.Public() })
		add("another type", "bundle", must(sign.SignEnvelope(testWorker, "text/plain", good.Payload)), same)
		twice := good
		twice.Signatures = slices.Repeat(good.Signatures, 2)
		add("two signatures", "bundle", twice, same)
		body := func(name, old, new string) {
			text := strings.Replace(string(good.Payload), old, new, 1)
			if text == string(good.Payload) {
				t.Fatal("no ", old)
			}
			add(name, "bundle", must(sign.SignEnvelope(testWorker, BundleType, []byte(text))), same)
		}
		body("another worker", `"worker_id":"`+hex.EncodeToString(b.Worker[:1]), `"worker_id":"00`)
		body("a month and a microsecond", `,"not_before":`+ // one earlier
			string(must(json.Marshal(b.NotBefore.UnixMicro()))), `,"not_before":`+string(must(json.Marshal(b.NotBefore.UnixMicro()-1))))
		body("no time at all", `"not_after":`+string(must(json.Marshal(b.NotAfter.UnixMicro()))), `"not_after":`+string(must(json.Marshal(b.NotBefore.UnixMicro()))))
		body("another format", bundleFormat, "consign/keys/v2")
		body("no keys", `["`+b.Keys[0].String()+`","`+b.Keys[1].String()+`"]`, `[]`)
		body("seq 0", `"seq":7`, `"seq":0`)
		body("whitespace", `,"seq"`, `, "seq"`)
		body("unknown key", `,"seq"`, `,"rank":1,"seq"`)
		body("duplicate key", `,"seq":7`, `,"seq":7,"seq":7`)
		body("a key twice", b.Keys[1].String(), b.Keys[1].String()+`","`+b.Keys[1].String())
		body("a weak key", b.Keys[1].String(), "x25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
		return out
	}, func(t *testing.T, v bundleVector) {
		b, err := VerifyBundle(v.Envelope, v.Worker, time.UnixMicro(v.Now), v.Highest)
		v.check(t, err)
		if err == nil {
			same(t, v.Name, must(b.body()), []byte(v.Body))
		}
	})
}
