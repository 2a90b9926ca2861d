// Package inproc is the transport of one process: the identity. A program whose
// workers and submitters live beside its queue needs no more, and whoever
// writes a transport measures it against this one: transporttest passes for
// both, and a call costs here what it costs the queue.
package inproc

import "github.com/consignq/consign"

// Dial returns the two faces of a queue in this process, the submitter's as
// the account sees it. Calls go straight to the queue, so requests and answers
// share memory with it: do not modify what was passed in or handed out.
func Dial(q *consign.Queue, account string) (consign.SubmitterAPI, consign.WorkerAPI) {
	return q.Submitter(account), q
}
