package consign

import (
	"crypto/sha256"

	"github.com/consignq/consign/crypto/sign"
)

// RecordType is the payload type of a record's envelope.
const RecordType = "application/vnd.consign.record+json"

// RecordFormat is the value of a record's "format".
const RecordFormat = "consign/record/v1"

// ComparatorNone is the comparator of a job whose results are never compared.
const ComparatorNone = "none"

// Record is a worker's account of one attempt, which it signs. What binds it to
// the job (queue to comparator below) a coordinator checks against what it
// assigned; the rest is the worker's word.
//
// docs/receipt-format.md describes its bytes. Numbers are at most 2^53-1,
// strings are UTF-8 of at most 1,024 bytes. Fields marked optional are left
// out of the body where they are zero.
type Record struct {
	QueueID        QueueID
	JobID          JobID
	ClaimID        ClaimID
	WorkerID       WorkerID
	Kind           string
	ModelRequested string   // optional: a kind may have no model
	HHash          [32]byte // SHA-256 of the header H
	InputHash      [32]byte // see InputHash
	ResultHash     [32]byte // SHA-256 of the stored result
	Comparator     string   // ComparatorNone where nothing is compared

	Model       string   // that ran; optional
	ModelDigest string   // as the engine names its weights; optional
	Engine      string   // its name and version; optional
	Class       string   // the results that this one may be compared with; optional
	TCommit     [32]byte // commitment to the comparison value, zero where there is none
	PoE         [32]byte // PoEv2 over the fields above

	Epoch int64   // of the draw, fixed before the result existed
	Seq   int64   // the worker's own counter of records, without gaps, from 1
	Log   LogHead // that the worker last verified; optional

	ExitStatus  int64 // of the executor, 0 for success
	StartedAt   int64 // microseconds since the Unix epoch, by the worker's clock
	FinishedAt  int64 // likewise, not before StartedAt
	ResourceUse ResourceUse
}

// LogHead is the size and root of a checkpoint of the queue's log. Zero where
// the worker has verified none.
type LogHead struct {
	Size int64
	Root [32]byte
}

// ResourceUse is what an attempt used, each figure left out where it is zero or
// not known.
type ResourceUse struct {
	CPUMicros        int64 // processor time
	GPUMicros        int64 // accelerator time
	MemoryBytes      int64 // at the peak
	OutputTokens     int64
	PromptTokens     int64
	VideoMemoryBytes int64 // at the peak
}

// members lists the body, keys in canonical order.
func (r *Record) members(c *canonical) {
	c.hex("claim_id", r.ClaimID[:])
	c.optText("class", &r.Class)
	c.text("comparator", &r.Comparator)
	c.optText("engine", &r.Engine)
	c.integer("epoch", &r.Epoch, 0)
	c.integer("exit_status", &r.ExitStatus, -maxSafeInteger)
	c.integer("finished_at", &r.FinishedAt, 0)
	c.constant("format", RecordFormat)
	c.hex("h_hash", r.HHash[:])
	c.hex("input_hash", r.InputHash[:])
	c.uuid("job_id", &r.JobID)
	c.text("kind", &r.Kind)
	if !c.absent("log", r.Log == LogHead{}) {
		c.key("log")
		c.object(r.Log.members)
	}
	c.optText("model", &r.Model)
	c.optText("model_digest", &r.ModelDigest)
	c.optText("model_requested", &r.ModelRequested)
	c.hex("poe", r.PoE[:])
	c.hex("queue_id", r.QueueID[:])
	if !c.absent("resource_use", r.ResourceUse == ResourceUse{}) {
		c.key("resource_use")
		c.object(r.ResourceUse.members)
	}
	c.hex("result_hash", r.ResultHash[:])
	c.integer("seq", &r.Seq, 1)
	c.integer("started_at", &r.StartedAt, 0)
	c.hex("t_commit", r.TCommit[:])
	c.hex("worker_id", r.WorkerID[:])
}

func (h *LogHead) members(c *canonical) {
	c.hex("root", h.Root[:])
	c.integer("size", &h.Size, 1)
}

func (u *ResourceUse) members(c *canonical) {
	c.optInteger("cpu_us", &u.CPUMicros)
	c.optInteger("gpu_us", &u.GPUMicros)
	c.optInteger("memory_bytes", &u.MemoryBytes)
	c.optInteger("output_tokens", &u.OutputTokens)
	c.optInteger("prompt_tokens", &u.PromptTokens)
	c.optInteger("video_memory_bytes", &u.VideoMemoryBytes)
}

// commitment is what the record's PoE commits to.
func (r *Record) commitment() PoEv2 {
	return PoEv2{Job: r.JobID, Claim: r.ClaimID, Worker: r.WorkerID, Model: r.Model,
		InputHash: r.InputHash, ResultHash: r.ResultHash, TCommit: r.TCommit}
}

// check refuses a record that contradicts itself, whoever signed it.
func (r *Record) check() error {
	switch {
	case r.FinishedAt < r.StartedAt:
		return badReceipt("record.finished_at", "is before started_at")
	case r.Comparator == ComparatorNone && r.TCommit != [32]byte{}:
		return badReceipt("record.t_commit", "is not zero, though nothing is compared")
	case r.PoE != r.commitment().Sum():
		return badReceipt("record.poe", "is not the commitment to the record's own fields")
	}
	return nil
}

// SignRecord signs a worker's record. WorkerID and PoE follow from the identity
// and the other fields, and are set here. It returns a *ReceiptError for a
// record that no verifier would accept.
func SignRecord(worker *sign.Identity, r Record) (sign.Envelope, error) {
	r.WorkerID = worker.Public().ID()
	r.PoE = r.commitment().Sum()
	if err := r.check(); err != nil {
		return sign.Envelope{}, err
	}
	body, err := writeCanonical(r.members)
	if err != nil {
		return sign.Envelope{}, badReceipt("record", err.Error())
	}
	return sign.SignEnvelope(worker, RecordType, body)
}

// VerifyRecord returns the record in an envelope that the worker's key signed.
// The key comes from the worker's registration, never from the envelope. It
// checks, in this order: the payload type; that there is one signature, and
// that it is the key's; that the body is canonical and complete; that worker_id
// names the key; that the record does not contradict itself, its PoE included.
// The error is a *ReceiptError.
//
// A record that verifies is what the worker says. CheckReturn and
// Receipt.Verify say whether it is about the right job.
func VerifyRecord(e sign.Envelope, worker sign.PublicKey) (Record, error) {
	body, err := openEnvelope("record", e, RecordType, worker)
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := readCanonical(body, r.members); err != nil {
		return Record{}, badReceipt("record", err.Error())
	}
	if r.WorkerID != worker.ID() {
		return Record{}, badReceipt("record.worker_id", "does not name the key that signed")
	}
	if err := r.check(); err != nil {
		return Record{}, err
	}
	return r, nil
}

// Returned is what a coordinator knows of a return before it reads the record:
// what it assigned, and the hashes of the bytes that it stores.
type Returned struct {
	Queue          QueueID
	Job            JobID
	Claim          ClaimID
	Worker         WorkerID // whose session sent it
	Kind           string
	ModelRequested string
	Comparator     string
	HHash          [32]byte // SHA-256 of the header H
	InputHash      [32]byte // see InputHash
	ResultHash     [32]byte // SHA-256 of the result as it came
}

// CheckReturn is the check that every return passes (seed 003, step 7, check
// 1): the record is about this attempt and these bytes, and its PoE is rebuilt
// from them. The record comes from VerifyRecord, which has checked the
// signature. The error is a *ReceiptError that wraps ErrBadResult and names
// the first field that differs.
func CheckReturn(want Returned, r Record) error {
	bad := func(field, problem string) error {
		return &ReceiptError{Field: "record." + field, Problem: problem, Err: ErrBadResult}
	}
	switch {
	case r.QueueID != want.Queue:
		return bad("queue_id", "names another queue")
	case r.JobID != want.Job:
		return bad("job_id", "names another job")
	case r.ClaimID != want.Claim:
		return bad("claim_id", "names another claim")
	case r.WorkerID != want.Worker:
		return bad("worker_id", "names another worker")
	case r.Kind != want.Kind:
		return bad("kind", "is not the kind of the job")
	case r.ModelRequested != want.ModelRequested:
		return bad("model_requested", "is not the model that the job asks for")
	case r.Comparator != want.Comparator:
		return bad("comparator", "is not the comparator of the job")
	case r.HHash != want.HHash:
		return bad("h_hash", "is not the SHA-256 of the job's header")
	case r.InputHash != want.InputHash:
		return bad("input_hash", "is not the SHA-256 of the job's input")
	case r.ResultHash != want.ResultHash:
		return bad("result_hash", "is not the SHA-256 of the result that came with it")
	}
	poe := PoEv2{Job: want.Job, Claim: want.Claim, Worker: want.Worker, Model: r.Model,
		InputHash: want.InputHash, ResultHash: want.ResultHash, TCommit: r.TCommit}
	if r.PoE != poe.Sum() {
		return bad("poe", "is not the commitment to the job, the worker and the result")
	}
	return nil
}

// QueueIDOf returns the ID of the queue that signs with the key.
func QueueIDOf(queue sign.PublicKey) QueueID { return sha256.Sum256(queue.Bytes()) }
