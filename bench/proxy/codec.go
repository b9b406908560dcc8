package main

import (
	"context"

	"github.com/valyala/fasthttp"
)

// codec is the least that a proxy of fasthttp does: its server and its client,
// and nothing between them. What it costs, cmstap can not save.
func codec(ctx context.Context, listen, origin string) error {
	const header = 16 << 10 // as in cmstap
	client := &fasthttp.HostClient{Addr: origin, MaxConns: 1024, DisableHeaderNamesNormalizing: true, ReadBufferSize: header}
	server := &fasthttp.Server{
		DisableHeaderNamesNormalizing: true, NoDefaultServerHeader: true, ReadBufferSize: header,
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.Request.SetHost(origin)
			if err := client.Do(&ctx.Request, &ctx.Response); err != nil {
				ctx.Error(err.Error(), fasthttp.StatusBadGateway)
			}
		},
	}
	defer context.AfterFunc(ctx, func() { _ = server.Shutdown() })()
	return server.ListenAndServe(listen)
}
