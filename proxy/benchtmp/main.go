package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sort"
	"strings"
	"syscall"
	"time"

	"klink/proxy"
	"klink/router"
)

type ss struct{}

func (ss) NewSession(int32) router.Session { return ss{} }
func (ss) Request(f []byte) router.Decision {
	return router.Decision{Action: router.Forward, Frame: f}
}
func (ss) Closed() {}

func main() {
	mode := flag.String("mode", "", "")
	up := flag.String("up", "", "")
	req := flag.Int("req", 200, "")
	resp := flag.Int("resp", 200, "")
	n := flag.Int("n", 1000, "")
	conns := flag.Int("conns", 1, "")
	flag.Parse()
	switch *mode {
	case "proxy":
		p, err := proxy.New(proxy.Config{Listen: "127.0.0.1:0", Sessions: ss{}})
		if err == nil {
			err = p.Start()
		}
		if err != nil {
			panic(err)
		}
		p.SetBootstrap([]string{*up})
		fmt.Println(p.Addr())
		os.Stdin.Read(make([]byte, 1))
		var ru syscall.Rusage
		syscall.Getrusage(0, &ru)
		fmt.Printf("%d %d %d\n", ru.Utime.Nano()+ru.Stime.Nano(), p.Stats().Pauses.Load(), ru.Maxrss)
		return
	}
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				buf := make([]byte, 4+*req)
				out := make([]byte, 4+*resp)
				binary.BigEndian.PutUint32(out, uint32(*resp))
				for {
					if _, err := io.ReadFull(c, buf); err != nil {
						return
					}
					c.Write(out)
				}
			}()
		}
	}()
	run := func(addr string) (time.Duration, time.Duration) {
		lat := make([]time.Duration, 0, *n)
		start := time.Now()
		done := make(chan bool)
		for i := 0; i < *conns; i++ {
			first := i == 0
			go func() {
				c, _ := net.Dial("tcp", addr)
				buf := make([]byte, 4+*req)
				binary.BigEndian.PutUint32(buf, uint32(*req))
				out := make([]byte, 4+*resp)
				for j := 0; j < *n; j++ {
					t := time.Now()
					c.Write(buf)
					if _, err := io.ReadFull(c, out); err != nil {
						panic(err)
					}
					if first {
						lat = append(lat, time.Since(t))
					}
				}
				done <- true
			}()
		}
		for i := 0; i < *conns; i++ {
			<-done
		}
		el := time.Since(start)
		sort.Slice(lat, func(a, b int) bool { return lat[a] < lat[b] })
		return el, lat[len(lat)/2]
	}
	el, p50 := run(ln.Addr().String())
	fmt.Printf("direct: %v p50 %v\n", el, p50)
	cmd := exec.Command(os.Args[0], "-mode", "proxy", "-up", ln.Addr().String())
	in, _ := cmd.StdinPipe()
	o, _ := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	cmd.Start()
	b := make([]byte, 100)
	k, _ := o.Read(b)
	el, p50 = run(strings.TrimSpace(string(b[:k])))
	in.Write([]byte{1})
	all, _ := io.ReadAll(o)
	cmd.Wait()
	var cpu, pauses, rss int64
	fmt.Sscan(string(all), &cpu, &pauses, &rss)
	total := float64(*n**conns) * float64(*req+*resp)
	fmt.Printf("proxy: %v p50 %v cpu %.3fs  %.1f us/req %.3f s/GB pauses %d rss %d MB\n", el, p50, float64(cpu)/1e9, float64(cpu)/1e3/float64(*n**conns), float64(cpu)/1e9/(total/1e9), pauses, rss/1024)
}
