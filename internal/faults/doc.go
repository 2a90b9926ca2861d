// Package faults kills, pauses, disconnects and fills up whole queues under
// load, and checks that they lost nothing: docs/reliability.md says what ran.
// It is a module of its own, so that none of what its tests need reaches a
// program that imports Consign.
package faults
