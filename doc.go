// Package consign is an embeddable job queue for AI inference on machines that
// the queue's owner does not control.
package consign
