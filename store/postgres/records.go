package postgres

import (
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/consignq/consign"
)

// specColumns are what a consign.Spec holds.
var specColumns = []column{
	{"id", "uuid"}, {"kind", "text"}, {"model", "text"}, {"custody", "text"}, {"comparator", "text"}, {"labels", "text"},
	{"chars", "bigint"}, {"vram", "bigint"}, {"privacy", "smallint"}, {"policy", "smallint"}, {"priority", "smallint"},
	{"hardware_tier", "smallint"}, {"tier", "smallint"}, {"header", "bytea"}, {"payload", "bytea"}, {"client_key", "bytea"},
	{"wraps", "json"}, {"signature", "bytea"},
}

// specRows gathers specs column by column.
type specRows struct {
	id                                            []pgtype.UUID
	kind, model, custody, comparator, labels      []string
	chars, vram                                   []int64
	privacy, policy, priority, hardwareTier, tier []int16
	header, payload, clientKey, signature         [][]byte
	wraps                                         []*string
}

func (r *specRows) add(s *consign.Spec) {
	r.id = append(r.id, uuid(s.ID))
	r.kind = append(r.kind, s.Kind)
	r.model = append(r.model, s.Model)
	r.custody = append(r.custody, string(s.Custody))
	r.comparator = append(r.comparator, s.Comparator)
	r.labels = append(r.labels, s.Labels)
	r.chars = append(r.chars, int64(s.Chars))
	r.vram = append(r.vram, int64(s.VRAM))
	r.privacy = append(r.privacy, int16(s.Privacy))
	r.policy = append(r.policy, int16(s.Policy))
	r.priority = append(r.priority, int16(s.Priority))
	r.hardwareTier = append(r.hardwareTier, int16(s.HardwareTier))
	r.tier = append(r.tier, int16(s.Tier))
	r.header = append(r.header, s.Header)
	r.payload = append(r.payload, s.Payload)
	r.clientKey = append(r.clientKey, s.ClientKey)
	r.wraps = append(r.wraps, encodeWraps(s.Wraps))
	r.signature = append(r.signature, s.Signature)
}

func (r *specRows) args() []any {
	return []any{r.id, r.kind, r.model, r.custody, r.comparator, r.labels, r.chars, r.vram, r.privacy, r.policy, r.priority,
		r.hardwareTier, r.tier, r.header, r.payload, r.clientKey, r.wraps, r.signature}
}

func scanSpec(rows pgx.Rows) (*consign.Spec, error) {
	s := &consign.Spec{}
	var chars, vram int64
	var privacy, policy, priority, hardwareTier, tier int16
	var wraps *string
	err := rows.Scan((*[16]byte)(&s.ID), &s.Kind, &s.Model, (*string)(&s.Custody), &s.Comparator, &s.Labels, &chars, &vram,
		&privacy, &policy, &priority, &hardwareTier, &tier, &s.Header, &s.Payload, &s.ClientKey, &wraps, &s.Signature)
	if err != nil {
		return nil, err
	}
	s.Chars, s.VRAM = uint32(chars), uint32(vram)
	s.Privacy, s.Policy, s.Priority = consign.Privacy(privacy), consign.Policy(policy), consign.Priority(priority)
	s.HardwareTier, s.Tier = uint8(hardwareTier), consign.Tier(tier)
	s.Wraps, err = decodeWraps(wraps)
	return s, err
}

// doneColumns are what a consign.Done holds.
var doneColumns = []column{
	{"id", "uuid"}, {"claim", "uuid"}, {"accepted_at", "bigint"}, {"exit_status", "integer"}, {"verification", "text"},
	{"worker", "bytea"}, {"digest", "bytea"}, {"result", "bytea"}, {"record", "bytea"}, {"acceptance", "json"}, {"comparison", "json"},
}

// doneRows gathers ends column by column.
type doneRows struct {
	id, claim                      []pgtype.UUID
	acceptedAt                     []int64
	exitStatus                     []int32
	verification                   []string
	worker, digest, result, record [][]byte
	acceptance, comparison         []*string
}

func (r *doneRows) add(d *consign.Done) {
	r.id = append(r.id, uuid(d.ID))
	r.claim = append(r.claim, uuid(d.Claim))
	r.acceptedAt = append(r.acceptedAt, int64(d.AcceptedAt))
	r.exitStatus = append(r.exitStatus, d.ExitStatus)
	r.verification = append(r.verification, string(d.Verification))
	r.worker = append(r.worker, d.Worker[:])
	r.digest = append(r.digest, d.Digest[:])
	r.result = append(r.result, d.Result)
	r.record = append(r.record, d.Record)
	r.acceptance = append(r.acceptance, encodeAcceptance(d.Acceptance))
	r.comparison = append(r.comparison, encodeComparison(d.Comparison))
}

func (r *doneRows) args() []any {
	return []any{r.id, r.claim, r.acceptedAt, r.exitStatus, r.verification, r.worker, r.digest, r.result, r.record, r.acceptance, r.comparison}
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
	if d.Acceptance, err = decodeAcceptance(acceptance); err != nil {
		return nil, err
	}
	d.Comparison, err = decodeComparison(comparison)
	return d, err
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
