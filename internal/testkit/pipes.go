package testkit

import "net"

// Pipes is a listener whose connections do not leave the program, and so keep
// the time of a testing/synctest bubble.
type Pipes chan net.Conn

// Dial returns the near end of a connection that Accept has taken.
func (p Pipes) Dial() net.Conn {
	here, there := net.Pipe()
	p <- there
	return here
}

// Accept implements net.Listener.
func (p Pipes) Accept() (net.Conn, error) {
	if conn := <-p; conn != nil {
		return conn, nil
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener. It may be called once.
func (p Pipes) Close() error {
	close(p)
	return nil
}

// Addr implements net.Listener.
func (p Pipes) Addr() net.Addr { return &net.TCPAddr{} }
