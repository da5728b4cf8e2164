"""Makes those files in crashes/ whose footers lie in a way that chance does not find; the others (aborted-*) were found by
tests/it/damage.rs. Run once: python tests/damage/craft.py

A small reader and writer of thrift's compact protocol: a struct is {field: [type, value]}, a list [type, elements, length to
write, where it is not the right one].
"""
import copy, os, struct

src = os.path.dirname(os.path.abspath(__file__)) + "/"
out = src + "crashes/"
def rv(b,i):
    v=s=0
    while True:
        c=b[i]; i+=1; v|=(c&127)<<s; s+=7
        if c<128: return v,i
def wv(v):
    o=bytearray()
    while v>127: o.append(v&127|128); v>>=7
    o.append(v); return bytes(o)
zz=lambda v:(v<<1)^(v>>63) if v>=0 else ((-v)<<1)-1
def rd(b,i,t):
    if t in(1,2): return t==1,i
    if t==3: return b[i],i+1
    if t in(4,5,6): v,i=rv(b,i); return (v>>1)^-(v&1),i
    if t==7: return b[i:i+8],i+8
    if t==8: n,i=rv(b,i); return b[i:i+n],i+n
    if t==9:
        h=b[i]; i+=1; n=h>>4
        if n==15: n,i=rv(b,i)
        l=[]
        for _ in range(n): v,i=rd(b,i,h&15); l.append(v)
        return [h&15,l,None],i
    if t==12:
        d={}; f=0
        while True:
            h=b[i]; i+=1
            if h==0: return d,i
            f+=h>>4; assert h>>4
            v,i=rd(b,i,h&15); d[f]=[h&15,v]
    raise Exception(t)
def wr(t,v):
    if t in(1,2): return b""
    if t==3: return bytes([v])
    if t in(4,5,6): return wv(zz(v)&(2**64-1))
    if t==7: return v
    if t==8: return wv(len(v))+v
    if t==9:
        n=len(v[1]) if v[2] is None else v[2]
        return bytes([0xF0|v[0]])+wv(n)+b"".join(wr(v[0],x) for x in v[1])
    o=bytearray(); f=0
    for k in sorted(v):
        kt,kv=v[k]
        if kt in(1,2): kt=1 if kv else 2
        o.append((k-f)<<4|kt); f=k; o+=wr(kt,kv)
    return bytes(o)+b"\0"
def load(name):
    b=open(src+name,"rb").read(); n=int.from_bytes(b[-8:-4],"little")
    f,_=rd(b[-8-n:-8],0,12); return b[:-8-n],f
def save(name,body,f):
    m=wr(12,f) if isinstance(f,dict) else f
    open(out+name,"wb").write(body+m+struct.pack("<I",len(m))+b"PAR1")
base="snappy-v1-dictionary.parquet"
body,f=load(base)
m=wr(12,f)
g=copy.deepcopy(f); g[2][1][2]=2**60; save("schema-list-of-2-to-the-60.parquet",body,g)
g=copy.deepcopy(f); g[4][1][2]=2**31-1; save("row-group-list-of-2-to-the-31.parquet",body,g)
g=copy.deepcopy(f)
leaf=g[2][1][1][-1]; group={3:[5,1],4:[8,b"g"],5:[5,1]}
g[2][1][1]=f[2][1][1]+[group]*20000+[leaf]; g[2][1][1][0]=copy.deepcopy(f[2][1][1][0]); g[2][1][1][0][5][1]+=1
save("nested-20000-deep.parquet",body,g)
# Everything agrees on 2^40 rows
g=copy.deepcopy(f); big=2**40
g[3][1]=2*big
for rg in g[4][1][1]:
    rg[3][1]=big
    for c in rg[1][1][1]: c[3][1][5][1]=big
save("agrees-on-2-to-the-41-rows.parquet",body,g)
g=copy.deepcopy(f); g[3][1]=2**27*2
for rg in g[4][1][1]:
    rg[3][1]=2**27
    for c in rg[1][1][1]: c[3][1][5][1]=2**27
save("agrees-on-2-to-the-28-rows.parquet",body,g)
g=copy.deepcopy(f)
for rg in g[4][1][1]:
    for c in rg[1][1][1]: c[3][1][6][1]=2**62
save("decompressed-size-2-to-the-62.parquet",body,g)
g=copy.deepcopy(f)
for rg in g[4][1][1]:
    rg[3][1]=0
save("row-groups-of-no-rows.parquet",body,g)
g=copy.deepcopy(f)
for rg in g[4][1][1]:
    for c in rg[1][1][1]: c[3][1][7][1]=2**62
save("pages-of-2-to-the-62-bytes.parquet",body,g)
