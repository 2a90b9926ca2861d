package postgres

import (
	"encoding/json"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/consignq/consign"
)

// specColumns are what a consign.Spec holds. specScan goes by the same order.
var specColumns = []column[*consign.Spec]{
	col("id", "uuid", func(s *consign.Spec) pgtype.UUID { return uuid(s.ID) }),
	col("kind", "text", func(s *consign.Spec) string { return s.Kind }),
	col("model", "text", func(s *consign.Spec) string { return s.Model }),
	col("custody", "text", func(s *consign.Spec) string { return string(s.Custody) }),
	col("comparator", "text", func(s *consign.Spec) string { return s.Comparator }),
	col("labels", "text", func(s *consign.Spec) string { return s.Labels }),
	col("chars", "bigint", func(s *consign.Spec) int64 { return int64(s.Chars) }),
	col("vram", "bigint", func(s *consign.Spec) int64 { return int64(s.VRAM) }),
	col("privacy", "smallint", func(s *consign.Spec) int16 { return int16(s.Privacy) }),
	col("policy", "smallint", func(s *consign.Spec) int16 { return int16(s.Policy) }),
	col("priority", "smallint", func(s *consign.Spec) int16 { return int16(s.Priority) }),
	col("hardware_tier", "smallint", func(s *consign.Spec) int16 { return int16(s.HardwareTier) }),
	col("tier", "smallint", func(s *consign.Spec) int16 { return int16(s.Tier) }),
	col("header", "bytea", func(s *consign.Spec) []byte { return s.Header }),
	col("payload", "bytea", func(s *consign.Spec) []byte { return s.Payload }),
	col("client_key", "bytea", func(s *consign.Spec) []byte { return s.ClientKey }),
	col("wraps", "json", func(s *consign.Spec) *string { return encodeWraps(s.Wraps) }),
	col("signature", "bytea", func(s *consign.Spec) []byte { return s.Signature }),
	col("webhook", "text", func(s *consign.Spec) string { return s.Webhook }),
}

// specScan is jobScan for specs.
func specScan() func(pgx.Rows) (*consign.Spec, error) {
	var row consign.Spec
	var chars, vram int64
	var privacy, policy, priority, hardwareTier, tier int16
	var wraps *string
	places := []any{(*[16]byte)(&row.ID), &row.Kind, &row.Model, (*string)(&row.Custody), &row.Comparator, &row.Labels, &chars, &vram,
		&privacy, &policy, &priority, &hardwareTier, &tier, &row.Header, &row.Payload, &row.ClientKey, &wraps, &row.Signature, &row.Webhook}
	return func(rows pgx.Rows) (*consign.Spec, error) {
		err := rows.Scan(places...)
		if err != nil {
			return nil, err
		}
		s := row
		s.Chars, s.VRAM = uint32(chars), uint32(vram)
		s.Privacy, s.Policy, s.Priority = consign.Privacy(privacy), consign.Policy(policy), consign.Priority(priority)
		s.HardwareTier, s.Tier = uint8(hardwareTier), consign.Tier(tier)
		s.Wraps, err = decodeWraps(wraps)
		var c checks
		c.json("wraps", err)
		c.within("chars", chars, math.MaxUint32)
		c.within("vram", vram, math.MaxUint32)
		c.within("privacy", int64(privacy), math.MaxUint8)
		c.within("policy", int64(policy), math.MaxUint8)
		c.within("priority", int64(priority), math.MaxUint8)
		c.within("hardware_tier", int64(hardwareTier), math.MaxUint8)
		c.within("tier", int64(tier), math.MaxUint8)
		return &s, c.err("specs", s.ID)
	}
}

// doneColumns are what a consign.Done holds. scanDone goes by the same order.
var doneColumns = []column[*consign.Done]{
	col("id", "uuid", func(d *consign.Done) pgtype.UUID { return uuid(d.ID) }),
	col("claim", "uuid", func(d *consign.Done) pgtype.UUID { return uuid(d.Claim) }),
	col("accepted_at", "bigint", func(d *consign.Done) int64 { return int64(d.AcceptedAt) }),
	col("exit_status", "integer", func(d *consign.Done) int32 { return d.ExitStatus }),
	col("verification", "text", func(d *consign.Done) string { return string(d.Verification) }),
	col("worker", "bytea", func(d *consign.Done) []byte { return d.Worker[:] }),
	col("digest", "bytea", func(d *consign.Done) []byte { return d.Digest[:] }),
	col("result", "bytea", func(d *consign.Done) []byte { return d.Result }),
	col("record", "bytea", func(d *consign.Done) []byte { return d.Record }),
	col("acceptance", "json", func(d *consign.Done) *string { return encodeAcceptance(d.Acceptance) }),
	col("comparison", "json", func(d *consign.Done) *string { return encodeComparison(d.Comparison) }),
}

func scanDone(rows pgx.Rows) (*consign.Done, error) {
	d := &consign.Done{}
	var worker, digest []byte
	var acceptance, comparison *string
	err := rows.Scan((*[16]byte)(&d.ID), (*[16]byte)(&d.Claim), (*int64)(&d.AcceptedAt), &d.ExitStatus, (*string)(&d.Verification), &worker, &digest,
		&d.Result, &d.Record, &acceptance, &comparison)
	if err != nil {
		return nil, err
	}
	copy(d.Worker[:], worker)
	copy(d.Digest[:], digest)
	var c checks
	c.sized("worker", worker, len(d.Worker), false)
	c.sized("digest", digest, len(d.Digest), false)
	d.Acceptance, err = decodeAcceptance(acceptance)
	c.json("acceptance", err)
	d.Comparison, err = decodeComparison(comparison)
	c.json("comparison", err)
	return d, c.err("done", d.ID)
}

// The parts of a spec and of an end that are kept as JSON. Bytes are base64.

type wrap struct {
	Worker []byte `json:"worker"`
	Wrap   []byte `json:"wrap"`
}

func encodeWraps(ws []consign.Wrap) *string {
	if ws == nil {
		return nil
	}
	out := make([]wrap, len(ws))
	for i, w := range ws {
		out[i] = wrap{w.Worker[:], w.Wrap}
	}
	return encode(out)
}

func decodeWraps(text *string) ([]consign.Wrap, error) {
	if text == nil {
		return nil, nil
	}
	var in []wrap
	if err := json.Unmarshal([]byte(*text), &in); err != nil {
		return nil, err
	}
	out := make([]consign.Wrap, len(in))
	for i, w := range in {
		out[i].Wrap = w.Wrap
		copy(out[i].Worker[:], w.Worker)
	}
	return out, nil
}

type acceptance struct {
	Record     []byte          `json:"record"`
	AcceptedAt int64           `json:"accepted_at"`
	Custody    consign.Custody `json:"custody"`
	Checks     []string        `json:"checks"`
	Class      string          `json:"class"`
	N          int64           `json:"n"`
	P          uint64          `json:"p"`
	Evidence   int64           `json:"evidence"`
	Drawn      bool            `json:"drawn"`
}

func encodeAcceptance(a *consign.Acceptance) *string {
	if a == nil {
		return nil
	}
	return encode(acceptance{a.Record[:], a.AcceptedAt, a.Custody, a.Checks, a.Class, a.N, a.P, a.Evidence, a.Drawn})
}

func decodeAcceptance(text *string) (*consign.Acceptance, error) {
	if text == nil {
		return nil, nil
	}
	var in acceptance
	if err := json.Unmarshal([]byte(*text), &in); err != nil {
		return nil, err
	}
	a := &consign.Acceptance{AcceptedAt: in.AcceptedAt, Custody: in.Custody, Checks: in.Checks, Class: in.Class,
		N: in.N, P: in.P, Evidence: in.Evidence, Drawn: in.Drawn}
	copy(a.Record[:], in.Record)
	return a, nil
}

type comparison struct {
	T      []byte `json:"t"`
	R      []byte `json:"r"`
	Sketch []byte `json:"sketch"`
}

func encodeComparison(c *consign.Comparison) *string {
	if c == nil {
		return nil
	}
	return encode(comparison{c.T[:], c.R[:], c.Sketch})
}

func decodeComparison(text *string) (*consign.Comparison, error) {
	if text == nil {
		return nil, nil
	}
	var in comparison
	if err := json.Unmarshal([]byte(*text), &in); err != nil {
		return nil, err
	}
	c := &consign.Comparison{Sketch: in.Sketch}
	copy(c.T[:], in.T)
	copy(c.R[:], in.R)
	return c, nil
}

// encode is for the types above, which all have a form in JSON.
func encode(v any) *string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	s := string(text)
	return &s
}
