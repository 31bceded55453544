@ Vector table, and a handler that keeps what a fault looked like in `results`.
.syntax unified
.cpu cortex-m7
.fpu fpv5-sp-d16
.thumb

.section .vectors, "a"
.word stack_top
.word start
.rept 14
.word handler
.endr
.rept 98
.word handler
.endr

.section .results, "aw", %nobits
.global results
results: .space 128

.text
.global start
.type start, %function
.thumb_func
start:
  ldr r0, =0xE000ED88       @ CPACR: the FPU
  ldr r1, [r0]
  orr r1, #0xF00000
  str r1, [r0]
  dsb
  isb
  ldr r0, =0xE000ED24       @ SHCSR
  ldr r1, =enabled_faults
  str r1, [r0]
  b test

.weak handler
.type handler, %function
.thumb_func
handler:
  ldr r0, =results
  mrs r1, ipsr
  str r1, [r0]
  mov r1, sp
  str r1, [r0, #4]
  str lr, [r0, #8]
  ldr r2, =0xE000ED28       @ CFSR, HFSR, DFSR, MMFAR, BFAR
  ldr r3, [r2]
  str r3, [r0, #12]
  ldr r3, [r2, #4]
  str r3, [r0, #16]
  ldr r3, [r2, #12]
  str r3, [r0, #20]
  ldr r3, [r2, #16]
  str r3, [r0, #24]
  ldr r2, =0x20000000
  cmp sp, r2
  blo halt                  @ nothing was pushed
  ldr r3, [sp, #24]
  str r3, [r0, #28]         @ the pc that was pushed
  ldr r3, [sp, #28]
  str r3, [r0, #32]         @ and the xPSR
.global halt
.type halt, %function
.thumb_func
halt:
  wfi
  b halt
.ltorg
