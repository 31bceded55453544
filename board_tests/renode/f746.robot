*** Comments ***
Run with: renode-test --variable ELF:/absolute/path/firmware.elf f746.robot
A test of the project checks that the frames below are what the protocol says.

*** Variables ***
# ECHO, sequence 0x0102, payload 00 01 00, and its reply.
@{ECHO_REQUEST}     0x06  0x01  0x09  0x02  0x01  0x03  0x01  0x02  0x01  0x05  0xDB  0x92  0x45  0xEC  0x00
${ECHO_REPLY}       06 01 89 02 01 03 01 02 01 05 01 17 7E BF 00
# RESET, sequence 0x0103, and its reply.
@{RESET_REQUEST}    0x05  0x01  0x08  0x03  0x01  0x01  0x05  0x1E  0xFC  0x99  0x59  0x00
${RESET_REPLY}      05 01 88 03 01 01 05 8C 4C 7F E8 00

*** Keywords ***
Start Image
    Execute Command             $bin=@${ELF}
    Execute Command             include @${CURDIR}/f746.resc
    Create Terminal Tester      sysbus.usart1  defaultPauseEmulation=true  binaryMode=true
    Let The Image Boot

Let The Image Boot
    # Bytes that arrive before the UART is on are lost.
    Execute Command             emulation RunFor "0.05"

Send
    [Arguments]                 @{bytes}
    FOR    ${byte}    IN    @{bytes}
        Execute Command         sysbus.usart1 WriteChar ${byte}
    END

*** Test Cases ***
Should Answer A Request
    Start Image
    Send                        @{ECHO_REQUEST}
    Wait For Bytes On Uart      ${ECHO_REPLY}

Should Answer After A Damaged Frame
    Start Image
    Send                        0x05  0x01  0x02  0x00
    Send                        @{ECHO_REQUEST}
    Wait For Bytes On Uart      ${ECHO_REPLY}

Should Answer After A Reset
    Start Image
    Send                        @{RESET_REQUEST}
    Wait For Bytes On Uart      ${RESET_REPLY}
    Let The Image Boot
    Send                        @{ECHO_REQUEST}
    Wait For Bytes On Uart      ${ECHO_REPLY}
