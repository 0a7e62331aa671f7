; Functions i64 (ptr buffer, i64 n) with results that depend on every step; compiled by the tests for host and guest.

define i64 @fib(ptr %buffer, i64 %n) noinline {
  %small = icmp ult i64 %n, 2
  br i1 %small, label %end, label %more
more:
  %a = sub i64 %n, 1
  %b = sub i64 %n, 2
  %x = call i64 @fib(ptr %buffer, i64 %a)
  %y = call i64 @fib(ptr %buffer, i64 %b)
  %sum = add i64 %x, %y
  br label %end
end:
  %r = phi i64 [ %n, %0 ], [ %sum, %more ]
  ret i64 %r
}

; 64-bit multiplicative generator into the buffer, then an insertion sort of signed 32-bit numbers, then a hash
define i64 @sort(ptr %buffer, i64 %n) {
  br label %fill
fill:
  %i = phi i64 [ 0, %0 ], [ %i.next, %fill ]
  %seed = phi i64 [ 88172645463325252, %0 ], [ %seed.next, %fill ]
  %s1 = shl i64 %seed, 13
  %s2 = xor i64 %seed, %s1
  %s3 = lshr i64 %s2, 7
  %s4 = xor i64 %s2, %s3
  %s5 = mul i64 %s4, 2685821657736338717
  %seed.next = add i64 %s5, %i
  %word = trunc i64 %seed.next to i32
  %p = getelementptr i32, ptr %buffer, i64 %i
  store i32 %word, ptr %p
  %i.next = add i64 %i, 1
  %filled = icmp eq i64 %i.next, %n
  br i1 %filled, label %outer, label %fill
outer:
  %j = phi i64 [ 1, %fill ], [ %j.next, %place ]
  %jp = getelementptr i32, ptr %buffer, i64 %j
  %key = load i32, ptr %jp
  br label %inner
inner:
  %k = phi i64 [ %j, %outer ], [ %k.less, %shift ]
  %k.zero = icmp eq i64 %k, 0
  br i1 %k.zero, label %place, label %look
look:
  %k.less = sub i64 %k, 1
  %lp = getelementptr i32, ptr %buffer, i64 %k.less
  %left = load i32, ptr %lp
  %greater = icmp sgt i32 %left, %key
  br i1 %greater, label %shift, label %place
shift:
  %kp = getelementptr i32, ptr %buffer, i64 %k
  store i32 %left, ptr %kp
  br label %inner
place:
  %dp = getelementptr i32, ptr %buffer, i64 %k
  store i32 %key, ptr %dp
  %j.next = add i64 %j, 1
  %sorted = icmp uge i64 %j.next, %n
  br i1 %sorted, label %hash, label %outer
hash:
  %h = phi i64 [ 0, %place ], [ %h.next, %hash ]
  %sum = phi i64 [ 5381, %place ], [ %sum.next, %hash ]
  %hp = getelementptr i32, ptr %buffer, i64 %h
  %hw = load i32, ptr %hp
  %wide = sext i32 %hw to i64
  %rot = call i64 @llvm.fshl.i64(i64 %sum, i64 %sum, i64 9)
  %sum.next = add i64 %rot, %wide
  %h.next = add i64 %h, 1
  %hashed = icmp eq i64 %h.next, %n
  br i1 %hashed, label %end, label %hash
end:
  ret i64 %sum.next
}

; divisions and remainders of all widths
define i64 @divide(ptr %buffer, i64 %n) {
  br label %loop
loop:
  %i = phi i64 [ 1, %0 ], [ %i.next, %loop ]
  %acc = phi i64 [ 123456789123456789, %0 ], [ %acc.next, %loop ]
  %d = or i64 %i, 1
  %q = sdiv i64 %acc, %d
  %r = urem i64 %acc, %d
  %q32 = trunc i64 %q to i32
  %d32 = trunc i64 %d to i32
  %u32 = udiv i32 %q32, %d32
  %m32 = srem i32 %q32, %d32
  %q16 = trunc i64 %q to i16
  %d16 = trunc i64 %d to i16
  %d16.odd = or i16 %d16, 3
  %u16 = udiv i16 %q16, %d16.odd
  %q8 = trunc i64 %q to i8
  %d8 = trunc i64 %d to i8
  %d8.pos = and i8 %d8, 63
  %d8.odd = or i8 %d8.pos, 5
  %u8 = urem i8 %q8, %d8.odd
  %a1 = zext i32 %u32 to i64
  %a2 = sext i32 %m32 to i64
  %a3 = zext i16 %u16 to i64
  %a4 = zext i8 %u8 to i64
  %b1 = mul i64 %acc, 6364136223846793005
  %b2 = add i64 %b1, %r
  %b3 = xor i64 %b2, %a1
  %b4 = sub i64 %b3, %a2
  %b5 = add i64 %b4, %a3
  %acc.next = xor i64 %b5, %a4
  %i.next = add i64 %i, 1
  %done = icmp ugt i64 %i.next, %n
  br i1 %done, label %end, label %loop
end:
  ret i64 %acc.next
}

; bytes: what the vectoriser makes of saturating sums, maxima and population counts
define i64 @bytes(ptr %buffer, i64 %n) {
  br label %fill
fill:
  %i = phi i64 [ 0, %0 ], [ %i.next, %fill ]
  %x = mul i64 %i, 167
  %b = trunc i64 %x to i8
  %p = getelementptr i8, ptr %buffer, i64 %i
  store i8 %b, ptr %p
  %i.next = add i64 %i, 1
  %filled = icmp eq i64 %i.next, %n
  br i1 %filled, label %loop, label %fill
loop:
  %j = phi i64 [ 0, %fill ], [ %j.next, %loop ]
  %sum = phi i64 [ 0, %fill ], [ %sum.next, %loop ]
  %bits = phi i64 [ 0, %fill ], [ %bits.next, %loop ]
  %q = getelementptr i8, ptr %buffer, i64 %j
  %c = load i8, ptr %q
  %sat = call i8 @llvm.uadd.sat.i8(i8 %c, i8 77)
  %max = call i8 @llvm.smax.i8(i8 %sat, i8 %c)
  store i8 %max, ptr %q
  %wide = zext i8 %max to i64
  %sum.next = add i64 %sum, %wide
  %pop = call i8 @llvm.ctpop.i8(i8 %sat)
  %pw = zext i8 %pop to i64
  %bits.next = add i64 %bits, %pw
  %j.next = add i64 %j, 1
  %done = icmp eq i64 %j.next, %n
  br i1 %done, label %end, label %loop
end:
  %high = shl i64 %bits.next, 32
  %r = add i64 %high, %sum.next
  ret i64 %r
}

; iterations of z*z + c in double, with conversions, square roots and comparisons
define i64 @float(ptr %buffer, i64 %n) {
  br label %loop
loop:
  %i = phi i64 [ 0, %0 ], [ %i.next, %done ]
  %total = phi i64 [ 0, %0 ], [ %total.next, %done ]
  %low = trunc i64 %i to i32
  %f = sitofp i32 %low to double
  %cx = fmul double %f, 0x3F947AE140000000
  %cy = call double @llvm.sqrt.f64(double %cx)
  br label %iterate
iterate:
  %k = phi i64 [ 0, %loop ], [ %k.next, %step ]
  %x = phi double [ 0.0, %loop ], [ %x.next, %step ]
  %y = phi double [ 0.0, %loop ], [ %y.next, %step ]
  %xx = fmul double %x, %x
  %yy = fmul double %y, %y
  %norm = fadd double %xx, %yy
  %inside = fcmp olt double %norm, 4.0
  %few = icmp ult i64 %k, 40
  %go = and i1 %inside, %few
  br i1 %go, label %step, label %done
step:
  %k.next = add i64 %k, 1
  %diff = fsub double %xx, %yy
  %shifted = fsub double %diff, %cx
  %x.next = fadd double %shifted, 0x3FE3333340000000
  %xy = fmul double %x, %y
  %xy2 = fadd double %xy, %xy
  %y.next = fsub double %xy2, %cy
  br label %iterate
done:
  %single = fptrunc double %norm to float
  %scaled = fmul float %single, 100.0
  %whole = fptosi float %scaled to i64
  %step.total = add i64 %total, %whole
  %total.next = add i64 %step.total, %k
  %i.next = add i64 %i, 1
  %finished = icmp eq i64 %i.next, %n
  br i1 %finished, label %end, label %loop
end:
  ret i64 %total.next
}

declare i64 @llvm.fshl.i64(i64, i64, i64)
declare i8 @llvm.uadd.sat.i8(i8, i8)
declare i8 @llvm.smax.i8(i8, i8)
declare i8 @llvm.ctpop.i8(i8)
declare double @llvm.sqrt.f64(double)
