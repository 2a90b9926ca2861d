// Package conformance holds tests of Consign against what others wrote: their
// vectors, their implementations, a second reader of its receipts. It is a
// module of its own so that none of their weight reaches a program that imports
// Consign.
package conformance
