package consign

import (
	"crypto/sha256"

	"github.com/consignq/consign/internal/lp"
)

// A proof-of-execution is a hash commitment: it binds one worker to one result
// of one job. It is no proof that the work was done honestly; for that results
// are sampled and compared.

// PoEv1 returns SHA-256(task_id || result || node_id), the formula of the first
// protocol, byte for byte. It is ambiguous: bytes may move between the fields,
// so ("req1", "0result") and ("req10", "result") commit to the same value. Use
// PoEv1Checked with nodes that speak it, and PoEv2 for everything else.
func PoEv1(taskID, result, nodeID []byte) [32]byte {
	h := sha256.New()
	h.Write(taskID)
	h.Write(result)
	h.Write(nodeID)
	return sum256(h)
}

// PoEv1Checked is PoEv1 over identifiers of a fixed length, which leave the
// result no room to move: no two inputs share a preimage.
func PoEv1Checked(task JobID, result []byte, node WorkerID) [32]byte {
	return PoEv1(task[:], result, node[:])
}

// PoEv2 is what a proof-of-execution of version 2 commits to.
type PoEv2 struct {
	Job        JobID
	Claim      ClaimID
	Worker     WorkerID
	Model      string   // that ran; empty where none did
	InputHash  [32]byte // see InputHash
	ResultHash [32]byte // SHA-256 of the stored result, so of the ciphertext when it is sealed
	TCommit    [32]byte // zero where nothing is compared
}

// Sum returns the commitment:
//
//	SHA-256(LP("consign/poe/v2") LP(job_id) LP(claim_id) LP(worker_id)
//	        LP(model) LP(input_hash) LP(result_hash) LP(t_commit))
func (p PoEv2) Sum() [32]byte {
	preimage := make([]byte, 0, 512) // on the stack for any usual model name
	preimage = lp.Append(preimage, []byte("consign/poe/v2"), p.Job[:], p.Claim[:], p.Worker[:],
		[]byte(p.Model), p.InputHash[:], p.ResultHash[:], p.TCommit[:])
	return sha256.Sum256(preimage)
}

// InputHash returns the SHA-256 of what a worker is given: the header H
// followed by the payload as it is stored. H is a fixed number of fields that
// state their lengths, so nothing can move between the two.
func InputHash(header, payload []byte) [32]byte {
	h := sha256.New()
	h.Write(header)
	h.Write(payload)
	return sum256(h)
}

func sum256(h interface{ Sum([]byte) []byte }) (sum [32]byte) {
	h.Sum(sum[:0])
	return sum
}
